//! swinstyle-bias-act.
