//! What the endpoints of freezes, caps and restrictions have in common but for their paths, which the description of the API
//! wants as literals.

/// The handlers `list`, `get` and `end` of one kind of incident.
// Formatted again, attributes in a macro would move to the right each time.
#[rustfmt::skip]
macro_rules! incident_routes {
    ($Incident:ident, $tag:tt, $all:tt, $one:tt, $id:tt, $end:tt) => {
        /// Those in force; those that have ended too, in pages, where they are asked for.
        #[utoipa::path(get, path = $all, params(incidents::IncidentQuery), tag = $tag, responses(
            (status = 200, body = super::Page<$Incident>), Problems,
        ))]
        pub(super) async fn list(
            State(app): State<Arc<App>>,
            caller: Caller,
            Query(query): Query<incidents::IncidentQuery>,
        ) -> Result<axum::Json<super::Page<serde_json::Value>>, Problem> {
            incidents::list::<$Incident>(&app, &caller, query).await
        }

        /// One of them.
        #[utoipa::path(get, path = $one, tag = $tag, params(($id = String, Path)), responses(
            (status = 200, body = $Incident), Problems,
        ))]
        pub(super) async fn get(
            State(app): State<Arc<App>>,
            caller: Caller,
            Path(id): Path<String>,
        ) -> Result<Response, Problem> {
            incidents::get::<$Incident>(&app, &caller, &id).await
        }

        /// Ends one. Doing it again changes nothing.
        #[utoipa::path(post, path = $end, tag = $tag, params(WriteOptions, ($id = String, Path)), responses(
            (status = 200, body = super::Changed<$Incident>), Problems,
        ))]
        pub(super) async fn end(
            State(app): State<Arc<App>>,
            caller: Caller,
            Path(id): Path<String>,
            options: WriteOptions,
        ) -> Result<Response, Problem> {
            incidents::end::<$Incident>(&app, &caller, &options, &id).await
        }
    };
}

pub(super) use incident_routes;
