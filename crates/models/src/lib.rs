//! swinstyle-models.
