-- What dashboards ask of many rows: sums of days, and sums and counts of hours by one thing alone.

CREATE TABLE usage_days (
    day BIGINT NOT NULL,
    key_name TEXT NOT NULL,
    team TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    calls BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    PRIMARY KEY (day, key_name, team, model, provider)
);
INSERT INTO usage_days
SELECT hour - hour % 86400000000, key_name, team, model, provider, CAST(SUM(calls) AS BIGINT), CAST(SUM(attempts) AS BIGINT),
    CAST(SUM(errors) AS BIGINT), CAST(SUM(input_tokens) AS BIGINT), CAST(SUM(output_tokens) AS BIGINT),
    CAST(SUM(cache_read_tokens) AS BIGINT), CAST(SUM(cache_write_tokens) AS BIGINT), CAST(SUM(reasoning_tokens) AS BIGINT),
    CAST(SUM(cost) AS BIGINT)
FROM usage_hours GROUP BY hour - hour % 86400000000, key_name, team, model, provider;

-- `kept` is how many of the calls are still there one by one. What is only counted has no sums.
CREATE TABLE usage_facets (
    facet TEXT NOT NULL,
    hour BIGINT NOT NULL,
    name TEXT NOT NULL,
    calls BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0,
    errors BIGINT NOT NULL DEFAULT 0,
    input_tokens BIGINT NOT NULL DEFAULT 0,
    output_tokens BIGINT NOT NULL DEFAULT 0,
    cache_read_tokens BIGINT NOT NULL DEFAULT 0,
    cache_write_tokens BIGINT NOT NULL DEFAULT 0,
    reasoning_tokens BIGINT NOT NULL DEFAULT 0,
    cost BIGINT NOT NULL DEFAULT 0,
    kept BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (facet, hour, name)
);
INSERT INTO usage_facets
SELECT facet, hour, name, CAST(SUM(calls) AS BIGINT), CAST(SUM(attempts) AS BIGINT), CAST(SUM(errors) AS BIGINT),
    CAST(SUM(input_tokens) AS BIGINT), CAST(SUM(output_tokens) AS BIGINT), CAST(SUM(cache_read_tokens) AS BIGINT),
    CAST(SUM(cache_write_tokens) AS BIGINT), CAST(SUM(reasoning_tokens) AS BIGINT), CAST(SUM(cost) AS BIGINT), 0
FROM (
    SELECT 'all' AS facet, '' AS name, usage_hours.* FROM usage_hours
    UNION ALL SELECT 'key', key_name, usage_hours.* FROM usage_hours
    UNION ALL SELECT 'team', team, usage_hours.* FROM usage_hours
    UNION ALL SELECT 'model', model, usage_hours.* FROM usage_hours
    UNION ALL SELECT 'provider', provider, usage_hours.* FROM usage_hours
) AS sums GROUP BY facet, hour, name;
INSERT INTO usage_facets (facet, hour, name, kept)
SELECT facet, started - started % 3600000000, name, COUNT(*)
FROM (
    SELECT 'all' AS facet, '' AS name, id, started FROM calls
    UNION ALL SELECT 'key', key_name, id, started FROM calls
    UNION ALL SELECT 'team', team, id, started FROM calls
    UNION ALL SELECT 'model', label, id, started FROM calls
    UNION ALL SELECT 'provider', provider, id, started FROM calls
    UNION ALL SELECT 'status', CAST(status AS TEXT), id, started FROM calls
    UNION ALL SELECT 'stream', CAST(stream AS TEXT), id, started FROM calls
    UNION ALL SELECT 'error', '', id, started FROM calls WHERE error IS NOT NULL
    UNION ALL SELECT 'named', label, id, started FROM calls
    UNION ALL SELECT 'named', model, id, started FROM calls WHERE model <> label
    UNION ALL SELECT 'named', upstream_model, id, started FROM calls WHERE upstream_model NOT IN (label, model)
) AS counted WHERE 1 = 1 GROUP BY facet, started - started % 3600000000, name
ON CONFLICT (facet, hour, name) DO UPDATE SET kept = excluded.kept;
