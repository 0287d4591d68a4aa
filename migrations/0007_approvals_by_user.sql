-- How many requests a user has, and how many of them were refused of late, is counted with each new one.
CREATE INDEX approvals_by_user ON approvals (user, state, created);
