//! Fetches random users, formats them and posts them to the publisher.
