DROP TABLE usage_facets;
DROP TABLE usage_days;
