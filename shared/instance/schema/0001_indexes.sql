-- Version 1: what is built in the size of a table, and lets others read it meanwhile.

CREATE UNIQUE INDEX log_position_pkey ON log_position (one_row);
CREATE UNIQUE INDEX projects_pkey ON projects (id);
CREATE UNIQUE INDEX projects_name_key ON projects (name);
CREATE UNIQUE INDEX vaults_pkey ON vaults (id);
CREATE UNIQUE INDEX vaults_project_id_name_key ON vaults (project_id, name);
CREATE UNIQUE INDEX secrets_pkey ON secrets (id);
CREATE UNIQUE INDEX secrets_vault_id_name_key ON secrets (vault_id, name);
CREATE UNIQUE INDEX secret_versions_pkey ON secret_versions (secret_id, version);
CREATE UNIQUE INDEX keys_pkey ON keys (id);
CREATE UNIQUE INDEX keys_vault_id_name_key ON keys (vault_id, name);
CREATE UNIQUE INDEX key_versions_pkey ON key_versions (key_id, version);
CREATE UNIQUE INDEX certificates_pkey ON certificates (id);
CREATE UNIQUE INDEX certificates_vault_id_name_key ON certificates (vault_id, name);
CREATE UNIQUE INDEX certificate_versions_pkey ON certificate_versions (certificate_id, version);
CREATE UNIQUE INDEX users_pkey ON users (id);
CREATE UNIQUE INDEX users_username_key ON users (username);
CREATE UNIQUE INDEX roles_pkey ON roles (id);
CREATE UNIQUE INDEX roles_name_key ON roles (name);
CREATE UNIQUE INDEX role_permissions_pkey ON role_permissions (role_id, permission);
CREATE UNIQUE INDEX role_bindings_pkey ON role_bindings (id);
CREATE UNIQUE INDEX settings_pkey ON settings (name);
CREATE UNIQUE INDEX keyring_pkey ON keyring (id);
CREATE UNIQUE INDEX rejections_pkey ON rejections (event_offset);

CREATE INDEX role_bindings_user ON role_bindings (user_id);
CREATE INDEX role_bindings_role ON role_bindings (role_id);

ALTER TABLE vaults ADD FOREIGN KEY (project_id) REFERENCES projects (id);
ALTER TABLE secrets ADD FOREIGN KEY (vault_id) REFERENCES vaults (id);
ALTER TABLE secret_versions ADD FOREIGN KEY (secret_id) REFERENCES secrets (id);
ALTER TABLE keys ADD FOREIGN KEY (vault_id) REFERENCES vaults (id);
ALTER TABLE key_versions ADD FOREIGN KEY (key_id) REFERENCES keys (id);
ALTER TABLE certificates ADD FOREIGN KEY (vault_id) REFERENCES vaults (id);
ALTER TABLE certificate_versions ADD FOREIGN KEY (certificate_id) REFERENCES certificates (id);
ALTER TABLE role_permissions ADD FOREIGN KEY (role_id) REFERENCES roles (id);
ALTER TABLE role_bindings ADD FOREIGN KEY (role_id) REFERENCES roles (id);
ALTER TABLE role_bindings ADD FOREIGN KEY (user_id) REFERENCES users (id);
