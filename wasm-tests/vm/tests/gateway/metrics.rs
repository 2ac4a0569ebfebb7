//! What the module says of itself.

use core::time::Duration;

use tollgate_vm::Hostcall;

use crate::stage::Stage;

/// From the body's end to the passing on; what a client takes to send it is not the gateway's.
#[test]
fn the_time_that_the_gateway_adds() {
    let stage = Stage::new();
    let (world, later) = (&stage.world, stage.world.clone());
    let _once = world.before(Hostcall::SetSharedData, move || {
        later.advance(Duration::from_micros(700))
    });
    // In one piece, as an upload is counted otherwise, and that is a write too.
    let mut stream = stage.chat().in_chunks(10_000).open();
    world.advance(Duration::from_secs(2));
    stream.send_rest();
    world.advance(Duration::from_secs(3));
    stream.finish().expect_response(200);
    stage.chat().send().expect_response(200);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.histogram("tollgate_gateway_us"), [700, 0]);
    assert_eq!(world.histogram("tollgate_first_byte_ms"), [3000, 0]);
}
