//! swinstyle-query-attention.
