//! swinstyle-window-attention.
