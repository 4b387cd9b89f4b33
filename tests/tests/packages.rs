//! x
#[test]
fn t() {
    let target = sifleet_tests::packaging::target().unwrap();
    let programs = sifleet_tests::programs::own("sifleet").unwrap().parent().unwrap().to_owned();
    let made = sifleet_tests::packaging::make(&sifleet_tests::packaging::Plan { programs, out: target.join("packages"), version: None, epoch: 1 }).unwrap();
    println!("{made:?}");
}
