//! Takes records over HTTP and answers once Kafka has acknowledged them.
