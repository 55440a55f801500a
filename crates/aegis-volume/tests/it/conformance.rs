//! The port's suite on local volumes.

use crate::setting::Setting;

#[tokio::test(flavor = "multi_thread")]
async fn local_volumes_conform() {
    let setting = Setting::new();
    aegis_testkit::conformance::volume::all(&setting.volumes, 100).await;
}
