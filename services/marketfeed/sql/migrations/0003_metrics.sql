-- What the streaming job makes of the records: metrics per window, their flags, alerts; and the queue of its corrections.
--
-- Sums are stored exact; everything that a division or a root makes of them is generated here, in one place, so that two
-- ways to the same sums end in the same digits. trim_scale takes the trailing zeros away, by which equal sums may differ.

CREATE TABLE trade_metrics (
    exchange           text COLLATE "C" NOT NULL,
    symbol             text COLLATE "C" NOT NULL,
    window_start       timestamptz      NOT NULL,
    window_end         timestamptz      NOT NULL,
    channel            text COLLATE "C" NOT NULL,  -- whose records were counted: trade, or aggTrade where a feed has no trade
    record_count       bigint           NOT NULL,  -- records of that channel, each id once
    trade_count        bigint           NOT NULL,  -- prints: an aggTrade sums up several
    first_id           bigint           NOT NULL,  -- of the records
    last_id            bigint           NOT NULL,
    open               numeric          NOT NULL,  -- price of the record with the first id
    high               numeric          NOT NULL,
    low                numeric          NOT NULL,
    close              numeric          NOT NULL,  -- price of the record with the last id
    volume             numeric          NOT NULL,  -- sum of quantities, in the base asset
    quote_volume       numeric          NOT NULL,  -- sum of price * quantity
    taker_buy_volume   numeric          NOT NULL,  -- of `volume`, what takers bought
    price_sum          numeric          NOT NULL,
    price_square_sum   numeric          NOT NULL,
    vwap               numeric GENERATED ALWAYS AS (trim_scale(quote_volume) / nullif(trim_scale(volume), 0)) STORED,
    -- Of the sample; none of a single record.
    price_stddev       numeric GENERATED ALWAYS AS (
        sqrt((record_count * trim_scale(price_square_sum) - trim_scale(price_sum) * trim_scale(price_sum))
             / nullif(record_count * (record_count - 1), 0))
    ) STORED,
    -- price_stddev as a share of vwap.
    volatility         numeric GENERATED ALWAYS AS (
        sqrt((record_count * trim_scale(price_square_sum) - trim_scale(price_sum) * trim_scale(price_sum))
             / nullif(record_count * (record_count - 1), 0))
        / nullif(trim_scale(quote_volume) / nullif(trim_scale(volume), 0), 0)
    ) STORED,
    taker_buy_share    numeric GENERATED ALWAYS AS (
        trim_scale(taker_buy_volume) / nullif(trim_scale(volume), 0)
    ) STORED,
    -- Judged after the sums are there, and again when a window before it is corrected.
    volume_baseline    numeric,                    -- mean volume of the five windows before; none while too few are known
    volatility_alert   boolean          NOT NULL DEFAULT false,
    volume_spike       boolean          NOT NULL DEFAULT false,
    volatility_threshold   numeric,                -- what the flags were judged by
    volume_spike_threshold numeric,
    complete           boolean          DEFAULT false,  -- the ledger proves it; none where the venue's ids cannot
    batch_id           bigint,                     -- of the streaming query that wrote it last
    updated_at         timestamptz      NOT NULL DEFAULT now(),
    corrected_at       timestamptz,                -- when it was computed anew from the stored records
    PRIMARY KEY (symbol, window_start, window_end, exchange)
);

CREATE INDEX trade_metrics_window_start ON trade_metrics (window_start);
-- The few whose baseline an earlier window may still bring.
CREATE INDEX trade_metrics_without_baseline ON trade_metrics (symbol) WHERE volume_baseline IS NULL;

CREATE TABLE spread_metrics (
    exchange           text COLLATE "C" NOT NULL,
    symbol             text COLLATE "C" NOT NULL,
    window_start       timestamptz      NOT NULL,
    window_end         timestamptz      NOT NULL,
    quote_updates      bigint           NOT NULL,  -- each update id once
    first_id           bigint           NOT NULL,
    last_id            bigint           NOT NULL,
    spread_sum         numeric          NOT NULL,  -- of ask - bid
    min_spread         numeric          NOT NULL,
    max_spread         numeric          NOT NULL,
    spread_bps_sum     numeric          NOT NULL,  -- of 20000 * (ask - bid) / (ask + bid), each cut off after 8 decimals
    min_spread_bps     numeric          NOT NULL,
    max_spread_bps     numeric          NOT NULL,
    avg_spread         numeric GENERATED ALWAYS AS (trim_scale(spread_sum) / nullif(quote_updates, 0)) STORED,
    avg_spread_bps     numeric GENERATED ALWAYS AS (trim_scale(spread_bps_sum) / nullif(quote_updates, 0)) STORED,
    spread_warning     boolean          NOT NULL DEFAULT false,
    spread_threshold   numeric,
    complete           boolean,                    -- as above: none, where the ids of quotes prove nothing
    batch_id           bigint,
    updated_at         timestamptz      NOT NULL DEFAULT now(),
    corrected_at       timestamptz,
    PRIMARY KEY (symbol, window_start, window_end, exchange)
);

CREATE INDEX spread_metrics_window_start ON spread_metrics (window_start);

-- A row per flag that was raised, with what it was judged by. One that a correction takes back stays, with the time.
CREATE TABLE alerts (
    exchange     text COLLATE "C" NOT NULL,
    symbol       text COLLATE "C" NOT NULL,
    kind         text COLLATE "C" NOT NULL,  -- volatility, volume_spike or spread
    window_start timestamptz      NOT NULL,
    window_end   timestamptz      NOT NULL,
    value        numeric          NOT NULL,  -- what was compared with the threshold
    threshold    numeric          NOT NULL,
    evidence     jsonb            NOT NULL,  -- the window's figures that `value` was made of
    raised_at    timestamptz      NOT NULL DEFAULT now(),
    withdrawn_at timestamptz,
    PRIMARY KEY (symbol, window_start, window_end, kind, exchange)
);

CREATE INDEX alerts_window_start ON alerts (window_start);

-- Minutes in which a record was stored long after they were over: their windows are compared with the ledger again.
-- Written in the transaction that stores the record.
CREATE TABLE late_minutes (
    exchange  text COLLATE "C" NOT NULL,
    symbol    text COLLATE "C" NOT NULL,
    channel   text COLLATE "C" NOT NULL,
    minute    timestamptz      NOT NULL,
    marked_at timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (exchange, symbol, channel, minute)
);

-- How far each stream's windows of one length have been compared with the ledger. A stream is here from its first window
-- on, or from when the ledger brings it up; only streams that are here are marked in late_minutes.
CREATE TABLE metrics_checked (
    exchange      text COLLATE "C" NOT NULL,
    symbol        text COLLATE "C" NOT NULL,
    channel       text COLLATE "C" NOT NULL,
    window_length interval         NOT NULL,
    since         timestamptz      NOT NULL,  -- windows from here on are there
    through       timestamptz      NOT NULL,  -- every window before this agrees, or is in late_minutes
    began_at      timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (exchange, channel, symbol, window_length)
);
