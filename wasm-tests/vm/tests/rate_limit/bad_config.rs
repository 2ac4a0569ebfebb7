//! What is wrong with a configuration is said, all of it, with its path.

use crate::support::bad_config::{each_is_refused, nonsense_is_refused};

#[test]
fn the_filter_says_where_and_why() {
    each_is_refused("rate-limit", "rate-limit", 26, |yaml| yaml);
}

#[test]
fn what_is_no_configuration_at_all_is_refused() {
    nonsense_is_refused("rate-limit", "rate-limit");
}
