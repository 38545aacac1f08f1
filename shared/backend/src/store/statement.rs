//! SQL text with typed binds, prepared once per connection.
//!
//! Diesel's `sql_query` prepares anew at every call. The store runs few statements, many times, and mostly over whole batches by
//! `UNNEST`, so its statements are plain SQL that is cached by its text. Write `{}` where a bind belongs.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{HasSqlType, Untyped};
use std::marker::PhantomData;

/// A statement under construction; run it with `diesel_async::RunQueryDsl`.
pub struct Statement<'a> {
    sql: &'static str,
    /// What stands between the binds. Diesel walks through a statement several times.
    pieces: Vec<&'static str>,
    binds: Vec<Box<dyn QueryFragment<Pg> + Send + Sync + 'a>>,
}

/// Begins a statement.
pub fn statement<'a>(sql: &'static str) -> Statement<'a> {
    let pieces: Vec<_> = sql.split("{}").collect();
    let binds = Vec::with_capacity(pieces.len());
    Statement { sql, pieces, binds }
}

impl<'a> Statement<'a> {
    /// Fills the next `{}`.
    #[must_use]
    pub fn bind<ST, U>(mut self, value: U) -> Self
    where
        ST: Send + Sync + 'static,
        U: ToSql<ST, Pg> + Send + Sync + 'a,
        Pg: HasSqlType<ST>,
    {
        self.binds.push(Box::new(Bind::<ST, U>(value, PhantomData)));
        self
    }
}

struct Bind<ST, U>(U, PhantomData<ST>);

impl<ST, U> QueryFragment<Pg> for Bind<ST, U>
where
    U: ToSql<ST, Pg>,
    Pg: HasSqlType<ST>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_bind_param(&self.0)
    }
}

impl QueryFragment<Pg> for Statement<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let mut pieces = self.pieces.iter();
        out.push_sql(pieces.next().copied().unwrap_or_default());
        let mut binds = self.binds.iter();
        for piece in pieces {
            let bind = binds.next().ok_or_else(|| wrong_number(self.sql))?;
            bind.walk_ast(out.reborrow())?;
            out.push_sql(piece);
        }
        if binds.next().is_some() { Err(wrong_number(self.sql)) } else { Ok(()) }
    }
}

fn wrong_number(sql: &str) -> diesel::result::Error {
    diesel::result::Error::QueryBuilderError(format!("the number of binds does not fit the statement: {sql}").into())
}

impl Query for Statement<'_> {
    type SqlType = Untyped;
}

impl QueryId for Statement<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}
