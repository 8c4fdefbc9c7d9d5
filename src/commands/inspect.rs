//! `inspect`: what a model holds, or what traces say, as tables.
