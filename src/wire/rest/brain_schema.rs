//! The shapes under `/v1/brain` as `/openapi.json` describes them.

use serde_json::Value;
use utoipa::ToSchema;

use super::schema::Meta;

/// What is asked; every member may be left out.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"query": "Acme", "entity_type": "customer", "join_to": {"entity_type": "invoice"}}))]
pub struct BrainQuery {
    /// Words to find, such as a name.
    #[schema(nullable = false)]
    pub query: Option<String>,
    /// Type of the entities; the members below need it.
    #[schema(nullable = false)]
    pub entity_type: Option<String>,
    #[schema(nullable = false)]
    pub join_to: Option<BrainJoin>,
    /// `{field: value}`, or `{field: {operator: value}}` with `eq`, `ne`, `gt`, `gte`, `lt`, `lte`, `in`, `contains`.
    #[schema(value_type = Option<Object>, nullable = false)]
    pub filter: Option<Value>,
    #[schema(nullable = false, minimum = 1, maximum = 100)]
    pub limit: Option<u32>,
    /// `next_cursor` of the answer before.
    #[schema(nullable = false)]
    pub cursor: Option<String>,
    /// Only these fields.
    #[schema(nullable = false)]
    pub fields: Option<Vec<String>>,
    #[schema(nullable = false)]
    pub aggregate: Option<BrainAggregate>,
}

/// Entities of another type that belong to each one found.
#[derive(Debug, ToSchema)]
pub struct BrainJoin {
    pub entity_type: String,
    /// How they belong, where it is not known: `invoice.customer_id=customer.id`.
    #[schema(nullable = false)]
    pub on: Option<String>,
    #[schema(nullable = false)]
    pub fields: Option<Vec<String>>,
    #[schema(value_type = Option<Object>, nullable = false)]
    pub filter: Option<Value>,
    #[schema(nullable = false, minimum = 0, maximum = 100)]
    pub limit: Option<u32>,
    #[schema(nullable = false)]
    pub aggregate: Option<BrainAggregate>,
}

/// What is worked out over all that match.
#[derive(Debug, ToSchema)]
pub struct BrainAggregate {
    #[schema(nullable = false)]
    pub count: Option<bool>,
    /// Fields to add up.
    #[schema(nullable = false)]
    pub sum: Option<Vec<String>>,
}

/// What was worked out.
#[derive(Debug, ToSchema)]
pub struct BrainAggregates {
    #[schema(nullable = false)]
    pub count: Option<u64>,
    /// A number for each field.
    #[schema(value_type = Option<Object>, nullable = false)]
    pub sum: Option<Value>,
}

/// An entity, as far as policy shows it.
#[derive(Debug, ToSchema)]
pub struct BrainEntity {
    pub r#type: String,
    #[schema(nullable = false)]
    pub key: Option<String>,
    #[schema(value_type = Object)]
    pub attributes: Value,
    /// With `join_to`: what belongs to it, and how much of that there is.
    #[schema(nullable = false)]
    pub joined: Option<Vec<BrainJoined>>,
    #[schema(nullable = false)]
    pub joined_total: Option<u64>,
    #[schema(nullable = false)]
    pub joined_aggregates: Option<BrainAggregates>,
}

/// An entity that belongs to another.
#[derive(Debug, ToSchema)]
pub struct BrainJoined {
    pub r#type: String,
    #[schema(nullable = false)]
    pub key: Option<String>,
    #[schema(value_type = Object)]
    pub attributes: Value,
}

#[derive(Debug, ToSchema)]
pub struct BrainFound {
    pub entities: Vec<BrainEntity>,
    pub total: u64,
    /// True where more match than were counted.
    #[schema(nullable = false)]
    pub total_is_at_least: Option<bool>,
    #[schema(nullable = false)]
    pub aggregates: Option<BrainAggregates>,
    #[schema(nullable = false)]
    pub next_cursor: Option<String>,
    /// What was left out, and how to get it.
    #[schema(nullable = false)]
    pub omitted: Option<Vec<String>>,
    /// Where nothing was asked for: what there is.
    #[schema(nullable = false)]
    pub types: Option<Vec<BrainType>>,
}

#[derive(Debug, ToSchema)]
pub struct BrainAnswer {
    pub data: BrainFound,
    pub meta: Meta,
}

/// A type of entities.
#[derive(Debug, ToSchema)]
pub struct BrainType {
    pub r#type: String,
    pub entities: u64,
    /// What the key is called; null where policy hides it.
    #[schema(required = true)]
    pub key: Option<String>,
    pub fields: Vec<BrainField>,
    pub relations: Vec<BrainRelation>,
}

#[derive(Debug, ToSchema)]
pub struct BrainField {
    pub name: String,
    /// Of its values, the commonest first.
    pub kinds: Vec<String>,
    /// How many entities have a value.
    pub filled: u64,
}

#[derive(Debug, ToSchema)]
pub struct BrainRelation {
    /// `invoice.customer_id=customer.id`
    pub on: String,
    /// Said by somebody, or inferred from names and values.
    pub declared: bool,
}

#[derive(Debug, ToSchema)]
pub struct BrainTypesAnswer {
    pub data: Vec<BrainType>,
    pub meta: Meta,
}

/// Entities to import.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"entities": [{"type": "customer", "key": "c-1", "attributes": {"name": "Acme"}}]}))]
pub struct NewEntities {
    /// Each with `type`, `key` and `attributes`; or flat, with `type`, `id` and its attributes beside them. At most 5,000.
    /// What is none is told in `faults`, and the others are written.
    pub entities: Vec<Value>,
    /// How types belong together: `invoice.customer_id=customer.id`.
    #[schema(nullable = false)]
    pub relations: Option<Vec<String>>,
}

#[derive(Debug, ToSchema)]
pub struct Imported {
    pub created: u64,
    pub updated: u64,
    pub unchanged: u64,
    pub faults: Vec<ImportFault>,
    /// Relations that were not kept, and why.
    pub undeclared: Vec<String>,
}

/// An entity that was not written.
#[derive(Debug, ToSchema)]
pub struct ImportFault {
    /// Its place in the list, from 0.
    pub at: u64,
    pub reason: String,
}

#[derive(Debug, ToSchema)]
pub struct ImportedAnswer {
    pub data: Imported,
    pub meta: Meta,
}
