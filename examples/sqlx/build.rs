fn main() {
    // Without this line, cargo does not notice new files in migrations/.
    println!("cargo:rerun-if-changed=migrations");
}
