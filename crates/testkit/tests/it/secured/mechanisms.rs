//! Each mechanism of Kafka: the publisher writes and the streamer reads with it.

use std::time::{Duration, Instant};

use testkit::service::Service;
use testkit::token_server::TokenServer;

use super::account::{Account, documented};
use super::env::{SecuredEnv, TIMEOUT, eventually, fetch};
use super::load::Load;
use super::login::Login;

const USERS: usize = 5;
/// Lifetime of a token, of which librdkafka uses four fifths.
const LIFETIME: Duration = Duration::from_secs(12);

/// Fetches users through a publisher and a streamer that both log in with `login`.
async fn chain_works(test: &str, login: impl FnOnce(&SecuredEnv) -> Login) {
    let env = SecuredEnv::new(test).await;
    env.create_all().await;
    let account = Account::with_login(&env, &env.name, login(&env)).await;
    account.grant(&env, &documented()).await;
    let publisher = Service::start(&account.options(&env, "publisher", "publisher")).unwrap();
    let streamer = Service::start(&account.options(&env, "streamer", "streamer")).unwrap();
    publisher.wait_until_ready(TIMEOUT).await.unwrap();
    streamer.wait_until_ready(TIMEOUT).await.unwrap();
    let summary = fetch(&env, &publisher, USERS).await;
    assert_eq!(summary["accepted"], USERS, "{summary}");
    env.wait_until_caught_up(&account.names.group).await;
    assert_eq!(env.table.count().await.unwrap(), i64::try_from(USERS).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_works_with_plain() {
    chain_works("plain", |_| Login::Plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_works_with_a_client_certificate() {
    let login = |env: &SecuredEnv| Login::Certificate {
        name: env.name.clone(),
    };
    chain_works("certificate", login).await;
}

/// Tokens expire under load: no acknowledged record is lost or late. Then the endpoint fails for a while, and a wrong secret
/// ends a service.
#[tokio::test(flavor = "multi_thread")]
async fn chain_works_with_expiring_tokens() {
    let env = SecuredEnv::new("token").await;
    env.create_all().await;
    let (key, _) = env.authority.token_key();
    let tokens = TokenServer::start(key, LIFETIME, &env.authority).await.unwrap();
    let login = Login::Token {
        client: env.name.clone(),
        endpoint: tokens.url().to_owned(),
    };
    let account = Account::with_login(&env, &env.name, login).await;
    account.grant(&env, &documented()).await;
    let options = account.options(&env, "publisher", "publisher");
    let publisher = Service::start(&options).unwrap();
    let streamer = Service::start(&account.options(&env, "streamer", "streamer")).unwrap();
    publisher.wait_until_ready(TIMEOUT).await.unwrap();
    streamer.wait_until_ready(TIMEOUT).await.unwrap();
    let load = Load::new(&env, publisher.api());
    let (started, issued) = (Instant::now(), tokens.issued());
    let renewals = eventually("both services renew their token twice", async || {
        let renewed = tokens.issued() - issued;
        if renewed >= 4 && started.elapsed() >= 2 * LIFETIME {
            Ok(())
        } else {
            Err(format!("{renewed} tokens"))
        }
    });
    load.during(renewals).await;
    env.wait_until_caught_up(&account.names.group).await;
    load.assert_nothing_lost().await;
    load.assert_nothing_late();
    // Both services request a token again after ten seconds.
    tokens.set_down(true);
    eventually("a refresh fails", async || {
        if tokens.refused() > 0 {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    tokens.set_down(false);
    let summary = fetch(&env, &publisher, USERS).await;
    assert_eq!(summary["accepted"], USERS, "{summary}");
    env.wait_until_caught_up(&account.names.group).await;
    for service in [&publisher, &streamer] {
        assert!(
            service.child().unwrap().is_running(),
            "{}",
            service.last_lines(20)
        );
    }

    let wrong = options
        .log_name("wrong-secret")
        .set("kafka.properties.sasl_oauthbearer_client_secret", "guessed-it");
    let refused = Service::start(&wrong).unwrap();
    let code = refused.wait(TIMEOUT).await.unwrap();
    let log = refused.last_lines(20);
    assert_eq!(code, Some(78), "{log}");
    assert!(
        log.contains(tokens.url()) && log.contains("invalid_client"),
        "{log}"
    );
    assert!(!log.contains("guessed-it"), "{log}");
}
