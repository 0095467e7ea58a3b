//! One target, and how far it is reached.

#![forbid(unsafe_code)]

/// A target with its figure.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    what: String,
    bound: String,
    figure: String,
    verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Met,
    /// By how much.
    Missed(String),
    /// Why.
    NotMeasured(String),
    Invalid(String),
    /// Beside the targets, without one of its own.
    Shown,
}

impl Check {
    pub(crate) fn at_most(what: impl Into<String>, figure: f64, bound: f64) -> Check {
        Check::compared(what, figure, "<=", bound, figure <= bound)
    }

    pub(crate) fn at_least(what: impl Into<String>, figure: f64, bound: f64) -> Check {
        Check::compared(what, figure, ">=", bound, figure >= bound)
    }

    /// For counts that are whole in the code; collections now and then that come to less than one in a hundred are none.
    pub(crate) fn exactly(what: impl Into<String>, figure: f64, bound: f64) -> Check {
        Check::compared(what, figure, "=", bound, (figure - bound).abs() < 0.01)
    }

    fn compared(what: impl Into<String>, figure: f64, sign: &str, bound: f64, is_met: bool) -> Check {
        let verdict = if is_met {
            Verdict::Met
        } else if bound.abs() < f64::EPSILON {
            Verdict::Missed(number(figure))
        } else {
            Verdict::Missed(format!("{:.1} %", 100.0 * ((figure - bound) / bound).abs()))
        };
        Check {
            what: what.into(),
            bound: format!("{sign} {}", short(bound)),
            figure: number(figure),
            verdict,
        }
    }

    /// A target that names who stands in its way; nobody is best.
    pub(crate) fn nobody(what: impl Into<String>, figure: String, in_the_way: &[String]) -> Check {
        let verdict =
            if in_the_way.is_empty() { Verdict::Met } else { Verdict::Missed(in_the_way.join(", ")) };
        Check { what: what.into(), bound: String::from("nobody"), figure, verdict }
    }

    pub(crate) fn shown(what: impl Into<String>, figure: String) -> Check {
        Check { what: what.into(), bound: String::new(), figure, verdict: Verdict::Shown }
    }

    pub(crate) fn not_measured(what: impl Into<String>, why: &str) -> Check {
        let verdict = Verdict::NotMeasured(String::from(why));
        Check { what: what.into(), bound: String::new(), figure: String::from("-"), verdict }
    }

    pub(crate) fn invalid(what: &str, why: &str) -> Check {
        Check { verdict: Verdict::Invalid(String::from(why)), ..Check::not_measured(what, "") }
    }

    /// Says more beside the figure.
    pub(crate) fn with(mut self, note: impl AsRef<str>) -> Check {
        self.figure = format!("{} ({})", self.figure, note.as_ref());
        self
    }

    pub(crate) fn cells(&self) -> Vec<String> {
        let verdict = match &self.verdict {
            Verdict::Met => String::from("met"),
            Verdict::Missed(by) => format!("missed: {by}"),
            Verdict::NotMeasured(why) => format!("not measured: {why}"),
            Verdict::Invalid(why) => format!("invalid: {why}"),
            Verdict::Shown => String::new(),
        };
        vec![self.what.clone(), self.bound.clone(), self.figure.clone(), verdict]
    }
}

fn number(number: f64) -> String {
    if number.abs() >= 1000.0 { format!("{number:.0}") } else { format!("{number:.2}") }
}

/// A bound as its author wrote it.
fn short(bound: f64) -> String {
    format!("{bound}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_say_by_how_much() {
        let verdict = |check: Check| check.cells()[3].clone();
        assert_eq!(verdict(Check::at_most("a", 1.7, 1.7)), "met");
        assert_eq!(verdict(Check::at_most("a", 2.04, 1.7)), "missed: 20.0 %");
        assert_eq!(verdict(Check::at_least("a", 0.9, 0.95)), "missed: 5.3 %");
        assert_eq!(verdict(Check::at_least("a", -5.0, -4.0)), "missed: 25.0 %");
        assert_eq!(verdict(Check::exactly("a", 0.004, 0.0)), "met");
        assert_eq!(verdict(Check::exactly("a", 1.01, 0.0)), "missed: 1.01");
        assert_eq!(verdict(Check::nobody("a", String::new(), &[String::from("b")])), "missed: b");
        assert_eq!(Check::at_most("a", 3.0, 1.0).with("b").cells()[2], "3.00 (b)");
    }
}
