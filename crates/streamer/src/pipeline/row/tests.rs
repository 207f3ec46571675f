//! Tests of rows: the bound values and the primary key.

use std::sync::Arc;

use super::*;

/// A contract with all types, whose key is not its first field.
pub(crate) const ORDERS: &str = r#"
syntax = "proto3";
package orders.v1;
import "affluent/options/v1/options.proto";
import "google/protobuf/timestamp.proto";
enum Status { NEW = 0; PAID = 1; }
message Order {
  option (affluent.options.v1.record) = { resource: "orders" key: "customer_id" clustering: ["placed_at", "order_id"] };
  string note = 1;
  int64 customer_id = 2;
  string order_id = 3 [(affluent.options.v1.rule).format = UUID];
  google.protobuf.Timestamp placed_at = 4;
  Status status = 5;
  bool paid = 6;
  int32 items = 7;
  uint32 weight = 8;
  float discount = 9;
  double total = 10;
  bytes token = 11;
  repeated string tags = 12;
  map<string, int32> quantities = 13;
  optional google.protobuf.Timestamp shipped_at = 14;
  optional string coupon = 15;
}
"#;

pub(crate) const ORDER_ID: &str = "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071";

pub(crate) fn orders() -> Arc<Contract> {
    Arc::new(Contract::from_source(ORDERS).unwrap())
}

/// An order of the customer, with this note.
pub(crate) fn order(customer: i64, note: &str) -> Vec<u8> {
    format!(
        r#"{{"note":"{note}","customer_id":"{customer}","order_id":"{ORDER_ID}","placed_at":"1970-01-01T00:00:00.007Z","status":"PAID","paid":true,"items":-3,"weight":4000000000,"discount":0.5,"total":1e3,"token":"AQI=","tags":["a","b"],"quantities":{{"b":2,"a":1}},"coupon":"ten"}}"#
    )
    .into_bytes()
}

fn bind(contract: &Contract, json: &[u8], shape: &TableShape) -> Row {
    Row::bind(&contract.parse_lenient(json).unwrap(), 7, shape)
}

fn column<'a>(contract: &Contract, row: &'a Row, name: &str) -> Option<&'a [u8]> {
    let slot = contract.slot(name).unwrap();
    let index = bind_order(contract).position(|it| it == slot).unwrap();
    values(row.wire()).nth(index).unwrap()
}

#[test]
fn each_value_is_bound_to_its_column() {
    let contract = orders();
    let row = bind(&contract, &order(9, "hi"), &TableShape::default());
    assert_eq!(values(row.wire()).count(), contract.fields().len() + 1);
    let column = |name| column(&contract, &row, name);
    let uuid = Uuid::parse_str(ORDER_ID).unwrap();
    assert_eq!(column("note"), Some(b"hi".as_slice()));
    assert_eq!(column("customer_id"), Some(9_i64.to_be_bytes().as_slice()));
    assert_eq!(column("order_id"), Some(uuid.as_bytes().as_slice()));
    assert_eq!(column("placed_at"), Some(7_i64.to_be_bytes().as_slice()));
    assert_eq!(column("status"), Some(b"PAID".as_slice()));
    assert_eq!(column("paid"), Some([1].as_slice()));
    assert_eq!(column("items"), Some((-3_i32).to_be_bytes().as_slice()));
    assert_eq!(column("weight"), Some(4_000_000_000_i64.to_be_bytes().as_slice()));
    assert_eq!(column("discount"), Some(0.5_f32.to_be_bytes().as_slice()));
    assert_eq!(column("total"), Some(1_000_f64.to_be_bytes().as_slice()));
    assert_eq!(column("token"), Some([1, 2].as_slice()));
    assert_eq!(
        column("tags"),
        Some([0, 0, 0, 2, 0, 0, 0, 1, b'a', 0, 0, 0, 1, b'b'].as_slice())
    );
    assert_eq!(
        column("quantities"),
        Some(
            [
                0, 0, 0, 2, 0, 0, 0, 1, b'a', 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 1, b'b', 0, 0, 0, 4, 0, 0, 0,
                2
            ]
            .as_slice()
        )
    );
    assert_eq!(column("shipped_at"), None, "an absent value is null");
    assert_eq!(column("coupon"), Some(b"ten".as_slice()));
    let last = values(row.wire()).last().unwrap();
    assert_eq!(
        (last, row.ingested_at()),
        (Some(7_i64.to_be_bytes().as_slice()), 7)
    );
    assert_eq!(values(row.fields()).count(), contract.fields().len());
}

#[test]
fn primary_key_comes_first_and_begins_with_its_partition() {
    let contract = orders();
    let row = bind(&contract, &order(9, "hi"), &TableShape::default());
    let partition = RowKey::of_partition(&Key::Bigint(9));
    assert_eq!(row.key().partition(), partition);
    assert!(row.key().is_in(&partition) && partition < row.key());
    assert!(!row.key().is_in(&RowKey::of_partition(&Key::Bigint(8))));
    assert_eq!(partition_key(row.wire()), 9_i64.to_be_bytes());
    assert!(row.wire().starts_with(row.key().wire()));
    assert_eq!(RowKey::of_values(values(row.key_wire()).flatten()), row.key());
    let expected = format!("9 1970-01-01T00:00:00.007Z {ORDER_ID}");
    assert_eq!(row.key().text(&contract, &TableShape::default()), expected);
    assert_eq!(partition.text(&contract, &TableShape::default()), "9");
}

#[test]
fn primary_key_of_users_is_their_key() {
    let contract = Contract::user();
    let json = include_bytes!("../../../../../proto-schema/examples/plain.json");
    let row = bind(&contract, json, &TableShape::default());
    let key = contract.parse_lenient(json).unwrap().key();
    assert_eq!(row.key(), RowKey::of_partition(&key));
    assert_eq!(row.key().text(&contract, &TableShape::default()), key.to_string());
    assert_eq!(
        bind_order(&contract).collect::<Vec<_>>(),
        (0..12).collect::<Vec<_>>()
    );
}

#[test]
fn text_column_gets_the_instant_in_record_format() {
    let contract = orders();
    let slots = ["placed_at", "shipped_at"].map(|name| contract.slot(name).unwrap());
    let shape = TableShape::with_text_instants(slots);
    let row = bind(&contract, &order(9, "hi"), &shape);
    assert_eq!(
        column(&contract, &row, "placed_at"),
        Some(b"1970-01-01T00:00:00.007Z".as_slice())
    );
    assert_eq!(column(&contract, &row, "shipped_at"), None);
    let expected = format!("9 1970-01-01T00:00:00.007Z {ORDER_ID}");
    assert_eq!(row.key().text(&contract, &shape), expected);
}

#[test]
fn absent_list_is_bound_as_empty() {
    let contract = orders();
    let json = String::from_utf8(order(9, "hi")).unwrap();
    let json = json.replace(r#""tags":["a","b"],"#, "");
    let row = bind(&contract, json.as_bytes(), &TableShape::default());
    assert_eq!(column(&contract, &row, "tags"), Some([0; 4].as_slice()));
}
