-- Version 1 of an instance's tables, without anything that slows a load down.
-- Runs with search_path set to the schema it builds, of whatever name.

CREATE TABLE log_position (
    one_row boolean NOT NULL DEFAULT true,
    cluster_id text,
    topic_id text,
    position bigint NOT NULL DEFAULT 0,
    last_offset bigint,
    last_event_id uuid,
    epoch bigint NOT NULL DEFAULT 1,
    fence_no bigint,
    fence_restore_id uuid,
    fence_offset bigint,
    highest_fence_no bigint NOT NULL DEFAULT 0,
    skipped jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE projects (
    id uuid NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    deleted_at timestamptz
);

CREATE TABLE vaults (
    id uuid NOT NULL,
    project_id uuid NOT NULL,
    name text NOT NULL,
    restricted boolean NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    deleted_at timestamptz
);

CREATE TABLE secrets (
    id uuid NOT NULL,
    vault_id uuid NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    labels jsonb NOT NULL,
    current_version integer NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    deleted_at timestamptz
);

CREATE TABLE secret_versions (
    secret_id uuid NOT NULL,
    version integer NOT NULL,
    sealed bytea NOT NULL,
    size_bytes integer NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL
);
-- Sealed values are random to a compressor: not trying saves the time.
ALTER TABLE secret_versions ALTER COLUMN sealed SET STORAGE EXTERNAL;

CREATE TABLE keys (
    id uuid NOT NULL,
    vault_id uuid NOT NULL,
    name text NOT NULL,
    algorithm text NOT NULL,
    current_version integer NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    deleted_at timestamptz
);

CREATE TABLE key_versions (
    key_id uuid NOT NULL,
    version integer NOT NULL,
    public_key bytea,
    sealed_private bytea NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL
);

CREATE TABLE certificates (
    id uuid NOT NULL,
    vault_id uuid NOT NULL,
    name text NOT NULL,
    current_version integer NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    deleted_at timestamptz
);

CREATE TABLE certificate_versions (
    certificate_id uuid NOT NULL,
    version integer NOT NULL,
    der bytea NOT NULL,
    subject text NOT NULL,
    issuer text NOT NULL,
    serial text NOT NULL,
    not_before timestamptz NOT NULL,
    not_after timestamptz NOT NULL,
    key_id uuid,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL
);

CREATE TABLE users (
    id uuid NOT NULL,
    username text NOT NULL,
    display_name text NOT NULL,
    email text NOT NULL,
    password_hash text,
    enabled boolean NOT NULL,
    created_at timestamptz NOT NULL,
    password_changed_at timestamptz
);

CREATE TABLE roles (
    id uuid NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE role_permissions (
    role_id uuid NOT NULL,
    permission text NOT NULL
);

CREATE TABLE role_bindings (
    id uuid NOT NULL,
    role_id uuid NOT NULL,
    user_id uuid NOT NULL,
    scope_kind text NOT NULL,
    scope_id uuid,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL
);

CREATE TABLE settings (
    name text NOT NULL,
    value jsonb,
    sealed bytea,
    updated_at timestamptz NOT NULL,
    updated_by text NOT NULL
);

CREATE TABLE keyring (
    id uuid NOT NULL,
    purpose text NOT NULL,
    state text NOT NULL,
    root_key_id text NOT NULL,
    wrapped bytea NOT NULL,
    check_value bytea NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE rejections (
    event_offset bigint NOT NULL,
    event_id uuid NOT NULL,
    event_type text NOT NULL,
    code text NOT NULL,
    detail text NOT NULL,
    event_time timestamptz NOT NULL,
    actor text NOT NULL
);
