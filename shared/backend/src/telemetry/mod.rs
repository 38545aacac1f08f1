//! pending
pub struct Filter;
impl Filter {
    pub fn parse(_: &str) -> Result<Self, String> {
        Ok(Self)
    }
}
