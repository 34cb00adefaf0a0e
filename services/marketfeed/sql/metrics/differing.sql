-- How many groups differ, and how many of them are computed anew now.
SELECT count(*) FILTER (WHERE differs), count(*) FILTER (WHERE chosen) FROM metrics_groups;
