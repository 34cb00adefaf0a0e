-- The records and the ledger. The placeholder is the dialect's: empty where an extension divides the table afterwards.
-- Times are exact to the microsecond; numbers have no scale, so that the venue's digits, trailing zeros included, survive.
-- Text is compared byte by byte (COLLATE "C"): names are identifiers, and index comparisons cost half as much.

CREATE TABLE trades (
    exchange       text COLLATE "C" NOT NULL,
    symbol         text COLLATE "C" NOT NULL,
    channel        text COLLATE "C" NOT NULL,  -- trade or aggTrade: their ids are different number spaces
    trade_id       bigint           NOT NULL,
    price          numeric          NOT NULL,
    quantity       numeric          NOT NULL,
    side           text COLLATE "C" NOT NULL,  -- the taker's
    first_trade_id bigint,                     -- the prints that an aggTrade sums up
    last_trade_id  bigint,
    event_time     timestamptz      NOT NULL,
    ingestion_time timestamptz      NOT NULL,
    source         text COLLATE "C" NOT NULL,  -- stream or backfill
    -- Symbol and time first: the key that makes a replay harmless also serves "this symbol, these minutes".
    PRIMARY KEY (symbol, event_time, trade_id, channel, exchange)
) {by_event_time};

CREATE TABLE book_ticker (
    exchange       text COLLATE "C" NOT NULL,
    symbol         text COLLATE "C" NOT NULL,
    update_id      bigint           NOT NULL,
    bid_price      numeric          NOT NULL,
    bid_quantity   numeric          NOT NULL,
    ask_price      numeric          NOT NULL,
    ask_quantity   numeric          NOT NULL,
    event_time     timestamptz      NOT NULL,  -- of receipt, where the venue sends none
    ingestion_time timestamptz      NOT NULL,
    source         text COLLATE "C" NOT NULL,
    -- The id first: two receipts of one update differ in event_time, and are looked for by id.
    PRIMARY KEY (update_id, symbol, event_time, exchange)
) {by_event_time};

CREATE INDEX book_ticker_symbol_event_time ON book_ticker (symbol, event_time);

-- One row per stream and minute of event_time, written in the transaction that stores the rows it counts.
CREATE TABLE ledger (
    exchange text COLLATE "C" NOT NULL,
    symbol   text COLLATE "C" NOT NULL,
    channel  text COLLATE "C" NOT NULL,
    minute   timestamptz      NOT NULL,
    stored   bigint           NOT NULL,
    repaired bigint           NOT NULL,  -- of `stored`, the rows that came by backfill
    first_id bigint           NOT NULL,
    last_id  bigint           NOT NULL,
    grade    text COLLATE "C" NOT NULL,  -- proven, probable or unknown: what the venue's ids allow
    PRIMARY KEY (exchange, symbol, channel, minute)
) WITH (fillfactor = 50);  -- the current minute's rows change with every batch: leave room to update them in place
