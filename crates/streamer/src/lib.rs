//! Writes the topic to Cassandra: every record a row or a dead letter, exactly once.
