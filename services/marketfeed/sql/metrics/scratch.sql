-- What one transaction of MetricsStore keeps in mind; emptied at every commit.
CREATE TEMPORARY TABLE IF NOT EXISTS metrics_touched (
    symbol text COLLATE "C", window_start timestamptz
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS metrics_judged (
    symbol text COLLATE "C", window_start timestamptz
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS metrics_streams (
    symbol text COLLATE "C", newest timestamptz, since timestamptz, through timestamptz, until timestamptz
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS metrics_marks (
    symbol text COLLATE "C", minute timestamptz
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS metrics_groups (
    symbol text COLLATE "C", starts timestamptz, stored bigint, differs boolean, chosen boolean
) ON COMMIT DELETE ROWS;
