//! Reads the bodies of requests.
