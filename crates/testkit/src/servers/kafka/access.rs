//! Permissions and passwords of a cluster's clients.
#![allow(
    unsafe_code,
    reason = "rdkafka does not wrap the requests for ACLs and SCRAM passwords; each use documents its soundness"
)]

use std::ffi::{CStr, CString};
use std::ptr;
use std::time::Duration;

use kafka::admin_request::{Guard, admin_request};
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka_sys as sys;
use sys::{rd_kafka_AclOperation_t as SysOperation, rd_kafka_ResourceType_t as SysResource};
use tokio::time::{Instant, sleep};

use super::KafkaCluster;
use crate::servers::ServerError;
use crate::servers::probe::admin_client;

const TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Kafka's minimum, because every login of a test computes them.
const SCRAM_ITERATIONS: i32 = 4096;

/// What a permission applies to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KafkaResource {
    /// A topic.
    Topic(String),
    /// A consumer group.
    Group(String),
}

/// What a permission allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are Kafka's")]
pub enum AclOperation {
    Read,
    Write,
    Create,
    Describe,
}

impl KafkaCluster {
    /// Allows each operation to the principal `user`, such as `alice` or `CN=alice`, and waits until a broker knows all.
    /// The user must not have any of these rights yet.
    ///
    /// # Errors
    /// When the cluster does not respond in time, or rejects the request.
    pub async fn allow(
        &self,
        user: &str,
        rights: &[(AclOperation, KafkaResource)],
    ) -> Result<(), ServerError> {
        if rights.is_empty() {
            return Ok(());
        }
        let mut bindings = rights.to_vec();
        bindings.sort();
        bindings.dedup();
        let added = bindings.len();
        let user = text(&format!("User:{user}"));
        let known = self.count_rights(&user).await?;
        let principal = user.clone();
        self.administer("create ACLs", move |admin| {
            create_acls(admin, &principal, &bindings)
        })
        .await?;
        let until = Instant::now() + TIMEOUT;
        while self.count_rights(&user).await? < known + added {
            if Instant::now() >= until {
                return Err(ServerError::Kafka {
                    operation: "see the ACLs of a client",
                    source: KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut),
                });
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    async fn count_rights(&self, user: &CString) -> Result<usize, ServerError> {
        let user = user.clone();
        self.administer("describe ACLs", move |admin| count_acls(admin, &user))
            .await
    }

    /// Sets the password of a user of SCRAM-SHA-512. A later one replaces it.
    ///
    /// # Errors
    /// As [`allow`](Self::allow).
    pub async fn set_password(&self, user: &str, password: &str) -> Result<(), ServerError> {
        let (user, password) = (text(user), password.to_owned());
        self.administer("set a password", move |admin| {
            set_password(admin, &user, &password)
        })
        .await
    }

    async fn administer<T: Send + 'static>(
        &self,
        operation: &'static str,
        request: impl FnOnce(&AdminClient<DefaultClientContext>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, ServerError> {
        let address = self.internal_bootstrap();
        let requested =
            tokio::task::spawn_blocking(move || admin_client(&address).and_then(|admin| request(&admin)))
                .await;
        requested
            .unwrap_or(Err(KafkaError::Canceled))
            .map_err(|source| ServerError::Kafka { operation, source })
    }
}

fn text(text: &str) -> CString {
    CString::new(text).expect("names of tests have no NUL")
}

/// The resource's type and name in Kafka's protocol.
fn resource(resource: &KafkaResource) -> (SysResource, CString) {
    match resource {
        KafkaResource::Topic(name) => (SysResource::RD_KAFKA_RESOURCE_TOPIC, text(name)),
        KafkaResource::Group(name) => (SysResource::RD_KAFKA_RESOURCE_GROUP, text(name)),
    }
}

fn operation(operation: AclOperation) -> SysOperation {
    match operation {
        AclOperation::Read => SysOperation::RD_KAFKA_ACL_OPERATION_READ,
        AclOperation::Write => SysOperation::RD_KAFKA_ACL_OPERATION_WRITE,
        AclOperation::Create => SysOperation::RD_KAFKA_ACL_OPERATION_CREATE,
        AclOperation::Describe => SysOperation::RD_KAFKA_ACL_OPERATION_DESCRIBE,
    }
}

fn create_acls(
    admin: &AdminClient<DefaultClientContext>,
    principal: &CStr,
    rights: &[(AclOperation, KafkaResource)],
) -> Result<(), KafkaError> {
    let mut error = [0; 256];
    // SAFETY: the client lives during the call. All texts outlive the calls that copy them. Each binding is destroyed once,
    // after the request that copies it. The event outlives its results.
    unsafe {
        let bindings: Vec<_> = rights
            .iter()
            .map(|(allowed, on)| {
                let (kind, name) = resource(on);
                let binding = sys::rd_kafka_AclBinding_new(
                    kind,
                    name.as_ptr(),
                    sys::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_LITERAL,
                    principal.as_ptr(),
                    c"*".as_ptr(),
                    operation(*allowed),
                    sys::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
                    error.as_mut_ptr(),
                    error.len(),
                );
                Guard(binding, |binding| sys::rd_kafka_AclBinding_destroy(binding))
            })
            .collect();
        let mut pointers: Vec<_> = bindings.iter().map(|binding| binding.0).collect();
        let handle = admin.inner().native_ptr();
        let request = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATEACLS;
        let event = admin_request(handle, request, TIMEOUT, |options, queue| {
            sys::rd_kafka_CreateAcls(handle, pointers.as_mut_ptr(), pointers.len(), options, queue);
        })?;
        let mut count = 0;
        let results = sys::rd_kafka_CreateAcls_result_acls(
            sys::rd_kafka_event_CreateAcls_result(event.0),
            &raw mut count,
        );
        (0..count).try_for_each(|index| check(sys::rd_kafka_acl_result_error(*results.add(index))))
    }
}

fn count_acls(admin: &AdminClient<DefaultClientContext>, principal: &CStr) -> Result<usize, KafkaError> {
    let mut error = [0; 256];
    // SAFETY: as in `create_acls`, for a filter instead of bindings.
    unsafe {
        let filter = Guard(
            sys::rd_kafka_AclBindingFilter_new(
                SysResource::RD_KAFKA_RESOURCE_ANY,
                ptr::null(),
                sys::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_ANY,
                principal.as_ptr(),
                ptr::null(),
                SysOperation::RD_KAFKA_ACL_OPERATION_ANY,
                sys::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ANY,
                error.as_mut_ptr(),
                error.len(),
            ),
            |filter| sys::rd_kafka_AclBinding_destroy(filter),
        );
        let handle = admin.inner().native_ptr();
        let request = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBEACLS;
        let event = admin_request(handle, request, TIMEOUT, |options, queue| {
            sys::rd_kafka_DescribeAcls(handle, filter.0, options, queue);
        })?;
        let mut count = 0;
        sys::rd_kafka_DescribeAcls_result_acls(
            sys::rd_kafka_event_DescribeAcls_result(event.0),
            &raw mut count,
        );
        Ok(count)
    }
}

fn set_password(
    admin: &AdminClient<DefaultClientContext>,
    user: &CStr,
    password: &str,
) -> Result<(), KafkaError> {
    // SAFETY: as in `create_acls`. Without a salt librdkafka generates one.
    unsafe {
        let alteration = Guard(
            sys::rd_kafka_UserScramCredentialUpsertion_new(
                user.as_ptr(),
                sys::rd_kafka_ScramMechanism_t::RD_KAFKA_SCRAM_MECHANISM_SHA_512,
                SCRAM_ITERATIONS,
                password.as_ptr(),
                password.len(),
                ptr::null(),
                0,
            ),
            |alteration| sys::rd_kafka_UserScramCredentialAlteration_destroy(alteration),
        );
        let mut pointers = [alteration.0];
        let handle = admin.inner().native_ptr();
        let request = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ALTERUSERSCRAMCREDENTIALS;
        let event = admin_request(handle, request, TIMEOUT, |options, queue| {
            sys::rd_kafka_AlterUserScramCredentials(handle, pointers.as_mut_ptr(), 1, options, queue);
        })?;
        let mut count = 0;
        let results = sys::rd_kafka_AlterUserScramCredentials_result_responses(
            sys::rd_kafka_event_AlterUserScramCredentials_result(event.0),
            &raw mut count,
        );
        (0..count).try_for_each(|index| {
            let response = *results.add(index);
            check(sys::rd_kafka_AlterUserScramCredentials_result_response_error(
                response,
            ))
        })
    }
}

/// # Safety
/// `error` is null or an error of librdkafka.
unsafe fn check(error: *const sys::rd_kafka_error_t) -> Result<(), KafkaError> {
    // SAFETY: by the contract above. A null pointer has the code of success.
    match unsafe { sys::rd_kafka_error_code(error) } {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(KafkaError::AdminOp(RDKafkaErrorCode::from(code))),
    }
}
