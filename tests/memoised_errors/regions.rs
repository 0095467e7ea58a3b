//! Which region a function needs.
use dogpile::{AsyncRegion, Region, cached};

static REGION: Region = Region::new("threads");
static TASKS: AsyncRegion = AsyncRegion::new("tasks");

#[cached(region = REGION)]
async fn task(n: u32) -> u32 {
    n
}

#[cached(region = TASKS)]
fn thread(n: u32) -> u32 {
    n
}

fn main() {}
