-- What lists show of a suite and of a run, so that none has to read them whole.
ALTER TABLE eval_suites ADD COLUMN head TEXT NOT NULL DEFAULT '{}';
UPDATE eval_suites SET head = json_object(
    'name', body -> '$.name',
    'description', body -> '$.description',
    'tolerance', body -> '$.tolerance',
    'environments', (SELECT json_group_array(key) FROM json_each(body, '$.environments')),
    'testCases', json_array_length(body, '$.cases'));
ALTER TABLE eval_runs ADD COLUMN head TEXT NOT NULL DEFAULT '{}';
UPDATE eval_runs SET head = json_remove(body, '$.cases');
