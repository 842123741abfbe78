//! What is asked of a value, but for expressions and lists of phrases.
