-- What a call was held to, what its first choice was between, and what became of its request.
ALTER TABLE calls ADD COLUMN decision TEXT;
