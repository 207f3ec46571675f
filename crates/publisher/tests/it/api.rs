//! The API: authentication, responses, bodies, idempotency and documents.

pub(crate) mod auth;
mod clients;
mod compression;
mod documents;
mod idempotency;
mod invalid_input;
mod jwt;
mod requests;
mod responses;
