//! What came of checks as JUnit XML, which CI systems show as test results.
//!
//! You are here: `commands::junit`, for `check`. A check is a test suite, each of its cases a test case.
//! Always true: no times are written, so that the same results are the same bytes.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use reports::checks::{CheckResults, Status};
use reports::words::clean;

/// The document.
pub fn xml(results: &CheckResults) -> String {
    let mut report = Report::new("foreshock check");
    for check in &results.checks {
        let mut suite = TestSuite::new(clean(&check.id));
        for case in &check.cases {
            let status = match case.status {
                Status::Holds => TestCaseStatus::success(),
                Status::Fails | Status::Undecided => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    let shows = case.failing.as_ref().map_or("not shown by the runs that it may take", |failing| &failing.shows);
                    status.set_message(clean(shows));
                    status.set_type(if case.status == Status::Fails { "fails" } else { "undecided" });
                    let mut lines = vec![check.says.clone(), case.words()];
                    lines.extend(case.failing.as_ref().map(|failing| results.command(failing)));
                    status.set_description(lines.iter().map(|line| clean(line)).collect::<Vec<_>>().join("\n"));
                    status
                }
            };
            let name = if case.label.is_empty() { &case.scenario } else { &case.label };
            let mut test = TestCase::new(clean(name), status);
            test.set_classname(clean(&check.id));
            suite.add_test_case(test);
        }
        report.add_test_suite(suite);
    }
    report.to_string().expect("writing to a String cannot fail")
}
