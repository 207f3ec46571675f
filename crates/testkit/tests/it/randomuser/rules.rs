//! Parameters and their defaults, seeds, ids, the rate limit and the request log.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use testkit::randomuser::{Options, RandomUserApi, RateLimit, RateLimitReply, ServedOutcome, ServedRequest};

use super::client::{client, get, page, results, start, start_with, text, uuids};

#[tokio::test]
async fn info_has_seed_results_page_and_version() {
    let api = start().await;
    let reply = page(&api, "/api/1.3/?results=7&page=3&seed=abc").await;
    assert_eq!(
        reply["info"],
        json!({"seed": "abc", "results": 7, "page": 3, "version": "1.3"})
    );
    assert_eq!(results(&reply).len(), 7);
}

#[tokio::test]
async fn path_without_version_is_the_latest_version() {
    let api = start().await;
    let latest = text(&api, "/api/?results=3&seed=x").await;
    assert_eq!(latest, text(&api, "/api/1.4/?results=3&seed=x").await);
    assert_eq!(latest, text(&api, "/api/1.4?results=3&seed=x&format=json").await);
}

#[tokio::test]
async fn unknown_versions_and_formats_are_rejected() {
    let api = start().await;
    assert_eq!(get(&api, "/api/0.8/").await.status(), 404);
    assert_eq!(get(&api, "/api/1.4/?format=csv").await.status(), 501);
    assert!(
        api.requests()
            .iter()
            .all(|request| request.outcome == ServedOutcome::NotOffered)
    );
}

#[tokio::test]
async fn results_outside_1_to_5000_become_1() {
    let api = start_with(Options::unlimited()).await;
    for (requested, served) in [
        ("0", 1),
        ("-5", 1),
        ("5001", 1),
        ("many", 1),
        ("", 1),
        ("1", 1),
        ("5000", 5_000),
    ] {
        let reply = page(&api, &format!("/api/1.4/?seed=x&inc=nat&results={requested}")).await;
        assert_eq!(results(&reply).len(), served, "results={requested}");
        assert_eq!(reply["info"]["results"], served, "results={requested}");
    }
}

#[tokio::test]
async fn page_outside_1_to_10000_becomes_1() {
    let api = start().await;
    let first = text(&api, "/api/1.4/?results=2&seed=x&page=1").await;
    for wrong in ["0", "10001", "-1", "next"] {
        assert_eq!(
            text(&api, &format!("/api/1.4/?results=2&seed=x&page={wrong}")).await,
            first,
            "page={wrong}"
        );
    }
    assert_ne!(text(&api, "/api/1.4/?results=2&seed=x&page=10000").await, first);
}

#[tokio::test]
async fn nationality_filter_ignores_case() {
    let api = start().await;
    let reply = page(&api, "/api/1.4/?results=200&seed=x&nat=us,Fi,NO").await;
    let seen: BTreeSet<&str> = results(&reply)
        .iter()
        .map(|user| user["nat"].as_str().unwrap())
        .collect();
    assert_eq!(seen, BTreeSet::from(["FI", "NO", "US"]));
}

#[tokio::test]
async fn unknown_nationality_disables_the_filter() {
    let api = start().await;
    let unfiltered = text(&api, "/api/1.4/?results=50&seed=x").await;
    assert_eq!(
        text(&api, "/api/1.4/?results=50&seed=x&nat=us,zz").await,
        unfiltered
    );
    // UA came with 1.4.
    let older = text(&api, "/api/1.3/?results=50&seed=x").await;
    assert_eq!(text(&api, "/api/1.3/?results=50&seed=x&nat=ua").await, older);
}

#[tokio::test]
async fn all_nationalities_of_a_version_appear() {
    let api = start().await;
    for (version, known) in [("1.4", 21), ("1.3", 17), ("1.2", 17)] {
        let reply = page(&api, &format!("/api/{version}/?results=2000&seed=x")).await;
        let seen: HashSet<&str> = results(&reply)
            .iter()
            .map(|user| user["nat"].as_str().unwrap())
            .collect();
        assert_eq!(seen.len(), known, "{version}");
    }
}

#[tokio::test]
async fn gender_filters_only_without_a_seed() {
    let api = start().await;
    let filtered = page(&api, "/api/1.4/?results=100&gender=female").await;
    assert!(results(&filtered).iter().all(|user| user["gender"] == "female"));
    let seeded = text(&api, "/api/1.4/?results=100&seed=x&gender=female").await;
    assert!(seeded.contains(r#""gender":"male""#));
    assert_eq!(seeded, text(&api, "/api/1.4/?results=100&seed=x").await);
}

#[tokio::test]
async fn inc_and_exc_select_fields() {
    let api = start().await;
    let keys = async |parameters: &str| -> Vec<String> {
        let reply = page(&api, &format!("/api/1.4/?seed=x&{parameters}")).await;
        results(&reply)[0].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(keys("inc=email,login,nonsense").await, ["email", "login"]);
    assert_eq!(keys("inc=email,login&exc=login").await, ["email"]);
    assert_eq!(keys("exc=login,picture").await.len(), 10);
    let whole = page(&api, "/api/1.4/?seed=x").await;
    let chosen = page(&api, "/api/1.4/?seed=x&inc=email").await;
    assert_eq!(results(&whole)[0]["email"], results(&chosen)[0]["email"]);
}

#[tokio::test]
async fn same_request_gives_same_bytes_on_another_server() {
    let path = "/api/1.4/?results=100&seed=abc&page=2&nat=fr,de";
    let (one, other) = (
        start().await,
        start_with(Options {
            rng_seed: 99,
            ..Options::default()
        })
        .await,
    );
    assert_eq!(text(&one, path).await, text(&other, path).await);
}

#[tokio::test]
async fn fewer_results_are_a_prefix_of_the_page() {
    let api = start().await;
    let (long, short) = (
        page(&api, "/api/?seed=x&results=20").await,
        page(&api, "/api/?seed=x&results=5").await,
    );
    assert_eq!(results(&short), &results(&long)[..5]);
}

#[tokio::test]
async fn requests_without_seed_get_reproducible_random_seeds() {
    let seeds = async |api: &RandomUserApi| {
        let mut seeds = Vec::new();
        for _ in 0..5 {
            seeds.push(
                page(api, "/api/1.4/").await["info"]["seed"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            );
        }
        seeds
    };
    let (one, same) = (seeds(&start().await).await, seeds(&start().await).await);
    assert_eq!(one, same);
    assert_eq!(one.iter().collect::<HashSet<_>>().len(), 5);
    assert!(one.iter().all(|seed| seed.len() == 16), "{one:?}");
    let other = start_with(Options {
        rng_seed: 1,
        ..Options::default()
    })
    .await;
    assert_ne!(seeds(&other).await, one);
}

#[tokio::test]
async fn few_seed_bits_repeat_pages() {
    let api = start_with(Options {
        seed_bits: 1,
        ..Options::default()
    })
    .await;
    let mut ids = HashSet::new();
    for _ in 0..3 {
        ids.insert(uuids(&page(&api, "/api/1.4/").await)[0].to_owned());
    }
    assert!(ids.len() <= 2, "{ids:?}");
}

#[tokio::test]
async fn ids_are_unique_per_version_seed_page_and_index() {
    let api = start().await;
    let mut seen = HashSet::new();
    for version in ["1.3", "1.4"] {
        for seed in ["a", "b"] {
            for number in 1..=2 {
                let reply = page(
                    &api,
                    &format!("/api/{version}/?results=1000&seed={seed}&page={number}"),
                )
                .await;
                seen.extend(uuids(&reply).into_iter().map(str::to_owned));
            }
        }
    }
    assert_eq!(seen.len(), 8_000);
}

#[tokio::test]
async fn date_changes_only_ages() {
    let later = Options {
        today: Timestamp::from_second(1_900_000_000).unwrap(),
        ..Options::default()
    };
    let (now, later) = (start().await, start_with(later).await);
    let (mut one, mut other) = (
        page(&now, "/api/?seed=x").await,
        page(&later, "/api/?seed=x").await,
    );
    assert_ne!(one, other);
    for reply in [&mut one, &mut other] {
        reply["results"][0]["dob"]["age"] = Value::Null;
        reply["results"][0]["registered"]["age"] = Value::Null;
    }
    assert_eq!(one, other);
}

#[tokio::test]
async fn rate_limit_gives_429_until_the_window_ends() {
    let rate_limit = RateLimit {
        users: 20,
        window: Duration::from_secs(2),
        reply: RateLimitReply::TooManyRequests,
    };
    let api = start_with(Options {
        rate_limit: Some(rate_limit),
        ..Options::default()
    })
    .await;
    assert_eq!(get(&api, "/api/?results=20").await.status(), 200);
    let refused = get(&api, "/api/").await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().get("retry-after").is_none());
    let body: Value = refused.json().await.unwrap();
    assert!(
        body["error"].is_string() && body.as_object().unwrap().len() == 1,
        "{body}"
    );

    let deadline = Instant::now() + Duration::from_secs(10);
    while get(&api, "/api/").await.status() != 200 {
        assert!(Instant::now() < deadline, "the rate limit never reset");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn older_deployment_gives_503_above_the_rate_limit() {
    let rate_limit = RateLimit {
        users: 1,
        reply: RateLimitReply::Unavailable,
        ..RateLimit::default()
    };
    let api = start_with(Options {
        rate_limit: Some(rate_limit),
        ..Options::default()
    })
    .await;
    let refused = get(&api, "/api/?results=2").await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().get("retry-after").is_none());
    assert!(refused.json::<Value>().await.unwrap()["error"].is_string());
}

#[tokio::test]
async fn default_rate_limit_is_20000_users() {
    let api = start().await;
    for _ in 0..4 {
        assert_eq!(get(&api, "/api/?results=5000&inc=nat").await.status(), 200);
    }
    assert_eq!(get(&api, "/api/").await.status(), 429);
}

#[tokio::test]
async fn requests_are_logged_with_their_outcome() {
    let api = start_with(Options {
        rate_limit: Some(RateLimit {
            users: 2,
            ..RateLimit::default()
        }),
        ..Options::default()
    })
    .await;
    get(&api, "/api/1.4/?results=2&seed=a%20b").await;
    get(&api, "/api/").await;
    let expected = [
        (
            "/api/1.4/",
            "results=2&seed=a%20b",
            ServedOutcome::Served { users: 2 },
        ),
        ("/api/", "", ServedOutcome::RateLimited),
    ]
    .map(|(path, query, outcome)| ServedRequest {
        path: path.into(),
        query: query.into(),
        outcome,
    });
    assert_eq!(api.requests(), expected);
    let seen = page(&api, "/_requests").await;
    assert_eq!(seen[0]["outcome"], json!({"served": {"users": 2}}));
    assert_eq!(seen[1]["outcome"], json!("rate_limited"));
}

#[tokio::test]
async fn dropped_api_closes_kept_alive_connections() {
    let api = start().await;
    let (client, url) = (client(), format!("{}/api/", api.url()));
    client.get(&url).send().await.unwrap().text().await.unwrap();
    drop(api);
    let deadline = Instant::now() + Duration::from_secs(5);
    while client.get(&url).send().await.is_ok() {
        assert!(Instant::now() < deadline, "the API still responds");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn stopped_api_can_restart_on_its_port() {
    let api = start().await;
    let listen = api.address();
    get(&api, "/api/").await;
    api.stop().await;
    let again = start_with(Options {
        listen,
        ..Options::default()
    })
    .await;
    assert_eq!(get(&again, "/api/").await.status(), 200);
}

#[tokio::test]
async fn address_in_use_is_reported() {
    let api = start().await;
    let error = RandomUserApi::start(Options {
        listen: api.address(),
        ..Options::default()
    })
    .await
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("failed to listen on {}", api.address())
    );
}

#[tokio::test]
async fn nationalities_are_evenly_distributed() {
    let api = start().await;
    let reply = page(&api, "/api/1.4/?results=5000&seed=x").await;
    let mut counts = BTreeMap::new();
    for user in results(&reply) {
        *counts.entry(user["nat"].as_str().unwrap()).or_insert(0) += 1;
    }
    assert!(
        counts.values().all(|count| (150..350).contains(count)),
        "{counts:?}"
    );
}
