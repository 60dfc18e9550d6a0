#ifndef SMUDGE_COPENSSL_SHIM_H
#define SMUDGE_COPENSSL_SHIM_H
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

// What OpenSSL has as macros only.

static inline int smudge_tls_only_13(SSL_CTX *context) {
  return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
}

// A write may end after part of its bytes, and is made again from wherever they lie then.
static inline void smudge_tls_set_modes(SSL_CTX *context) {
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

#endif
