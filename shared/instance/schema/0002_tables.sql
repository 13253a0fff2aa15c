-- Which adoption of a log this state rests on. A state that was rebuilt from the log has none, and
-- stops at the event of that adoption: what came before it is not on this log.
ALTER TABLE log_position ADD COLUMN adoption_id uuid;
