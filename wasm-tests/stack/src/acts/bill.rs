//! What was shown, and whether it was as promised.

use anyhow::{Result, bail};

/// Prints steps as they come, in the columns of `examples/quickstart/tour.py`.
#[derive(Debug, Default)]
pub(super) struct Bill {
    shown: usize,
    broken: usize,
}

impl Bill {
    /// What the exchanges from here on are about.
    pub(super) fn heading(&self, text: &str) {
        println!("\n{text}\n");
    }

    /// One step, an exchange or many alike: what was promised, what came, and lines that say why.
    pub(super) fn show(&mut self, title: &str, promised: &str, came: &str, details: &[String]) {
        self.shown += 1;
        let kept = came == promised;
        self.broken += usize::from(!kept);
        println!(
            "{:3} {} {title:<46}  {came}",
            self.shown,
            if kept { "ok " } else { "NO " }
        );
        for detail in details {
            println!("         {detail}");
        }
        if !kept {
            println!("         promised was: {promised}");
        }
    }

    /// # Errors
    /// Something was not as promised.
    pub(super) fn end(self) -> Result<()> {
        let Self { shown, broken } = self;
        if broken > 0 {
            bail!("{broken} of {shown} steps were not as promised, see above");
        }
        println!("\n{shown} steps, all as promised.");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broken_promise_is_an_error() {
        let mut bill = Bill::default();
        bill.show("a good one", "200", "200", &[]);
        bill.show("a bad one", "200", "502", &[]);
        let error = bill.end().unwrap_err().to_string();
        assert_eq!(error, "1 of 2 steps were not as promised, see above");
    }

    #[test]
    fn kept_promises_are_none() {
        let mut bill = Bill::default();
        bill.show("a good one", "200", "200", &[]);
        assert!(bill.end().is_ok());
    }
}
