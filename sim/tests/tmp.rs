#[path = "../../tests/it/analytic.rs"] mod analytic;
#[path = "../../tests/it/determinism.rs"] mod determinism;
#[path = "../../tests/it/faults.rs"] mod faults;
#[path = "../../tests/it/metastable.rs"] mod metastable;
#[path = "../../tests/it/story.rs"] mod story;
