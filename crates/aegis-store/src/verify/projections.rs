//! Projections: rebuilt in memory from the leaves, and compared table by table.

use futures_util::TryStreamExt;
use sqlx::{Row as _, SqliteConnection};

use super::report::{Damage, VerifyReport};
use crate::error::OpenError;
use crate::folder::Folder;
use crate::leaves;
use crate::projection::{Row, Table};

pub(super) async fn check(
    connection: &mut SqliteConnection,
    folder: &Folder,
    report: &mut VerifyReport,
) -> Result<(), OpenError> {
    let projections = match leaves::fold(connection, folder).await {
        Ok(projections) => projections,
        Err(error) => {
            report.found(Damage::Unreadable(error.to_string()));
            return Ok(());
        }
    };
    table(connection, &projections.agents, report).await?;
    table(connection, &projections.versions, report).await?;
    table(connection, &projections.executions, report).await?;
    table(connection, &projections.iterations, report).await?;
    table(connection, &projections.volumes, report).await?;
    table(connection, &projections.costs, report).await
}

async fn table<R: Row>(
    connection: &mut SqliteConnection,
    expected: &Table<R>,
    report: &mut VerifyReport,
) -> Result<(), OpenError> {
    let mut expected = expected.sorted();
    let wrong = |id: &str| Damage::Projection { table: R::TABLE.to_owned(), id: id.to_owned() };
    let mut rows = sqlx::query(R::ALL).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let id: &str = row.try_get(0)?;
        let stored = serde_json::from_str::<R>(row.try_get(1)?).ok();
        report.records += 1;
        match (expected.remove(id), stored) {
            (Some(expected), Some(stored)) if *expected == stored => {}
            _ => report.found(wrong(id)),
        }
    }
    for id in expected.keys() {
        report.found(wrong(id));
    }
    Ok(())
}
