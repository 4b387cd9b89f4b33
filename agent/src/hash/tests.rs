//! Tests of reading files: what is refused, what is remembered, what counts as still.
