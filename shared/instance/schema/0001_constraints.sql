-- Version 1: keys, indexes and rules, added after a load.
-- Names are compared at the end of a transaction: within one batch of events two may change places.

ALTER TABLE log_position ADD PRIMARY KEY (one_row), ADD CHECK (one_row);
ALTER TABLE projects ADD PRIMARY KEY (id), ADD UNIQUE (name) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE vaults ADD PRIMARY KEY (id), ADD UNIQUE (project_id, name) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE secrets ADD PRIMARY KEY (id), ADD UNIQUE (vault_id, name) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE secret_versions ADD PRIMARY KEY (secret_id, version);
ALTER TABLE keys ADD PRIMARY KEY (id), ADD UNIQUE (vault_id, name) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE key_versions ADD PRIMARY KEY (key_id, version);
ALTER TABLE certificates ADD PRIMARY KEY (id), ADD UNIQUE (vault_id, name) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE certificate_versions ADD PRIMARY KEY (certificate_id, version);
ALTER TABLE users ADD PRIMARY KEY (id), ADD UNIQUE (username) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE roles ADD PRIMARY KEY (id), ADD UNIQUE (name) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE role_permissions ADD PRIMARY KEY (role_id, permission);
ALTER TABLE role_bindings ADD PRIMARY KEY (id),
    ADD CHECK (scope_kind IN ('instance', 'project', 'vault', 'secret')),
    ADD CHECK ((scope_kind = 'instance') = (scope_id IS NULL));
ALTER TABLE settings ADD PRIMARY KEY (name), ADD CHECK (value IS NULL OR sealed IS NULL);
ALTER TABLE keyring ADD PRIMARY KEY (id), ADD CHECK (state IN ('active', 'retired'));
ALTER TABLE rejections ADD PRIMARY KEY (event_offset);

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
