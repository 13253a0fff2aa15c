-- Version 1: keys and rules that take over what was built; each needs its table alone, for a moment.
-- Names are compared at the end of a transaction: within one batch of events two may change places.

ALTER TABLE log_position
    ADD CONSTRAINT log_position_pkey PRIMARY KEY USING INDEX log_position_pkey,
    ADD CHECK (one_row);
ALTER TABLE projects
    ADD CONSTRAINT projects_pkey PRIMARY KEY USING INDEX projects_pkey,
    ADD CONSTRAINT projects_name_key UNIQUE USING INDEX projects_name_key DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE vaults
    ADD CONSTRAINT vaults_pkey PRIMARY KEY USING INDEX vaults_pkey,
    ADD CONSTRAINT vaults_project_id_name_key UNIQUE USING INDEX vaults_project_id_name_key DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE secrets
    ADD CONSTRAINT secrets_pkey PRIMARY KEY USING INDEX secrets_pkey,
    ADD CONSTRAINT secrets_vault_id_name_key UNIQUE USING INDEX secrets_vault_id_name_key DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE secret_versions ADD CONSTRAINT secret_versions_pkey PRIMARY KEY USING INDEX secret_versions_pkey;
ALTER TABLE keys
    ADD CONSTRAINT keys_pkey PRIMARY KEY USING INDEX keys_pkey,
    ADD CONSTRAINT keys_vault_id_name_key UNIQUE USING INDEX keys_vault_id_name_key DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE key_versions ADD CONSTRAINT key_versions_pkey PRIMARY KEY USING INDEX key_versions_pkey;
ALTER TABLE certificates
    ADD CONSTRAINT certificates_pkey PRIMARY KEY USING INDEX certificates_pkey,
    ADD CONSTRAINT certificates_vault_id_name_key UNIQUE USING INDEX certificates_vault_id_name_key DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE certificate_versions ADD CONSTRAINT certificate_versions_pkey PRIMARY KEY USING INDEX certificate_versions_pkey;
ALTER TABLE users
    ADD CONSTRAINT users_pkey PRIMARY KEY USING INDEX users_pkey,
    ADD CONSTRAINT users_username_key UNIQUE USING INDEX users_username_key DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE roles
    ADD CONSTRAINT roles_pkey PRIMARY KEY USING INDEX roles_pkey,
    ADD CONSTRAINT roles_name_key UNIQUE USING INDEX roles_name_key DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE role_permissions ADD CONSTRAINT role_permissions_pkey PRIMARY KEY USING INDEX role_permissions_pkey;
ALTER TABLE role_bindings
    ADD CONSTRAINT role_bindings_pkey PRIMARY KEY USING INDEX role_bindings_pkey,
    ADD CHECK (scope_kind IN ('instance', 'project', 'vault', 'secret')),
    ADD CHECK ((scope_kind = 'instance') = (scope_id IS NULL));
ALTER TABLE settings
    ADD CONSTRAINT settings_pkey PRIMARY KEY USING INDEX settings_pkey,
    ADD CHECK (value IS NULL OR sealed IS NULL);
ALTER TABLE keyring
    ADD CONSTRAINT keyring_pkey PRIMARY KEY USING INDEX keyring_pkey,
    ADD CHECK (state IN ('active', 'retired'));
ALTER TABLE rejections ADD CONSTRAINT rejections_pkey PRIMARY KEY USING INDEX rejections_pkey;
