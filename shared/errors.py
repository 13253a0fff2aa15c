"""The one tree of errors that a person or a program may meet.

Every class has a stable ``code``, a ``hint`` that says what to do, an HTTP status (RFC 9457
problems), an exit code for the command line, and whether the same call may succeed later
(``retryable``). The message of an instance says what happened; it never holds a secret.

    SecrynError
    |- UsageError              the caller's input is wrong           exit 2
    |- AccessError             who you are, what you may do          exit 3
    |- ConflictError           the state does not allow it now       exit 4
    |- NotFoundError           there is no such thing                exit 5
    |- ArchiveError            the file, its key, its source         exit 6
    |- UnavailableError        a part does not answer                exit 7
    `- FailedError             it was begun and did not succeed      exit 8
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

# A message is told to others as an event, and may repeat what somebody sent.
MAX_MESSAGE_CHARS = 2000


class SecrynError(Exception):
    """Say what happened in the message; class attributes say the rest."""

    code: ClassVar[str] = "internal"
    hint: ClassVar[str] = "Look into the service's log for the correlation id, and report it."
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    # Whoever raised it has audited it: that it is answered is not told a second time.
    in_trail: bool = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        if len(message) > MAX_MESSAGE_CHARS:
            message = message[: MAX_MESSAGE_CHARS - 4] + " ..."
        super().__init__(message)
        self.message = message
        self.advice = hint if hint is not None else self.hint

    def as_problem(self) -> dict[str, object]:
        """Return the RFC 9457 members that describe this error."""
        return {
            "type": f"urn:secryn:error:{self.code}",
            "title": self.code,
            "status": self.http_status,
            "detail": self.message,
            "code": self.code,
            "hint": self.advice,
            "retryable": self.retryable,
        }


class UsageError(SecrynError):
    code = "usage.invalid"
    hint = "Correct the named field and send the request again."
    http_status = 400
    exit_code = 2


class PreconditionMissing(UsageError):
    code = "usage.if_match_missing"
    hint = "Read it first, and send its ETag in If-Match, or * to overwrite whatever is there."
    http_status = 428


class PartialScope(UsageError):
    code = "usage.partial_scope"
    hint = "A backup and a restore are always of the whole instance: leave the selection out."


class NotConfirmed(UsageError):
    code = "backup.delete_not_confirmed"
    hint = "Type the id of the very backup that is to be deleted."


class RetentionRefused(UsageError):
    code = "retention.refused"
    hint = "Correct the named rule; docs/retention.md lists all of them with examples."


class RecipientInvalid(UsageError):
    code = "recipient.invalid"
    hint = (
        "Copy the recipient again, whole: one line that begins with age1 or age1pq1, as "
        "`age-keygen -y KEYFILE` prints it."
    )


class RecipientsMixed(UsageError):
    code = "recipient.mixed"
    hint = "Name only recipients that begin with age1pq1, or none of them."


class UnknownSetting(UsageError):
    code = "settings.invalid"
    hint = "Correct the named setting; docs/settings.md lists all of them."


class MessageUnreadable(UsageError):
    code = "message.unreadable"
    hint = "Send a CloudEvent in Kafka's binary mode as the published schema describes it."


class EventUnstorable(MessageUnreadable):
    code = "event.unstorable"
    hint = "Restore a backup to get past it, and report the event."


class ValueTooLarge(UsageError):
    code = "value.too_large"
    hint = "Store a smaller value, or split it; the limit is that of one log record."
    http_status = 413


class MethodNotAllowed(UsageError):
    code = "usage.method"
    hint = "Use a method that the header Allow names; /api/v1/docs tells what each does."
    http_status = 405


class MediaTypeUnsupported(UsageError):
    code = "usage.media_type"
    hint = "Send the media type that the operation takes, in the header Content-Type."
    http_status = 415


class RangeUnsatisfiable(UsageError):
    code = "usage.range"
    hint = "Ask for a part inside of the object; the header Content-Range tells its size."
    http_status = 416

    def __init__(self, message: str, *, hint: str | None = None, size_bytes: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.size_bytes = size_bytes


class UploadTooLarge(UsageError):
    code = "upload.too_large"
    hint = "The setting restore.upload_max_bytes limits it. Restore a stored backup by its id."
    http_status = 413


class CommandReused(UsageError):
    code = "command.reused"
    hint = "Send what you ask for now under an id, or an Idempotency-Key, of its own."
    http_status = 422


class AccessError(SecrynError):
    code = "access.denied"
    hint = "Ask an administrator for the named permission."
    http_status = 403
    exit_code = 3


class NotAuthenticated(AccessError):
    code = "access.unauthenticated"
    hint = "Send the token in the Authorization header: Bearer TOKEN."
    http_status = 401


class ProofNeeded(AccessError):
    code = "access.proof_needed"
    hint = (
        "Sign in again, then ask again; or use an API token that was made as unattended, or the "
        "machine's own token."
    )


class SignInRefused(AccessError):
    code = "access.sign_in_refused"
    hint = "Check the name and the password. An administrator can set a new one."
    http_status = 401


class SessionEnded(AccessError):
    code = "access.session_ended"
    hint = "Sign in again with your name and password."
    http_status = 401


class CrossSiteRefused(AccessError):
    code = "access.cross_site"
    hint = "Load the page again and send the form from there; another program needs an API token."


class StalePage(AccessError):
    code = "access.stale_page"
    hint = "Nothing was done. Load the page again, and do it once more if it is still wanted."


class TooManyAttempts(AccessError):
    code = "access.too_many_attempts"
    hint = "Wait as long as Retry-After says. The operator's token and API tokens still work."
    http_status = 429

    def __init__(self, message: str, *, hint: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class BootstrapSpent(AccessError):
    code = "access.bootstrap_spent"
    hint = "Sign in, or make another on the machine: `secryn bootstrap`."


class OwnRequest(AccessError):
    code = "approval.own_request"
    hint = "Another person who holds the permission approve has to approve it."


class SignatureInvalid(AccessError):
    code = "access.signature_invalid"
    hint = "Sign the message with the key of a registered issuer."


class ConflictError(SecrynError):
    code = "conflict"
    hint = "Read the present state and decide again."
    http_status = 409
    exit_code = 4


class UploadOffset(ConflictError):
    code = "upload.offset"
    hint = "Read how far the upload is, and go on there; or choose another id."


class ConcurrencyConflict(ConflictError):
    code = "conflict.concurrent_change"
    hint = "Somebody else decided first; read what was decided."
    retryable = True


class ConfigurationChanged(ConflictError):
    code = "configuration.changed"
    hint = "Read it again, and decide again: what you decided on is not what holds now."
    http_status = 412


class ChangeOnItsWay(ConflictError):
    code = "configuration.on_its_way"
    hint = "A change is on its way to the store. Read it again in a moment, and decide again."
    retryable = True


class NothingToConfirm(ConflictError):
    code = "configuration.nothing_to_confirm"
    hint = "It holds as it is: only what a restore or somebody else brought waits for a word."


class RestoreInProgress(ConflictError):
    code = "restore.in_progress"
    hint = "Wait until the restore is over: `secryn restore list` shows it."
    retryable = True


class RehearsalInProgress(ConflictError):
    code = "rehearsal.in_progress"
    hint = "One rehearsal goes at a time: wait for it, or `secryn restore rehearsal cancel`."
    retryable = True


class TickMissed(ConflictError):
    code = "rehearsal.tick_missed"
    hint = "The next one runs; `--missed run` makes a missed one up."


class BackupInProgress(ConflictError):
    code = "backup.in_progress"
    hint = "Wait until the running backup is over, or cancel it."
    retryable = True


class BackupHeld(ConflictError):
    code = "backup.held"
    hint = "Every holder has to release it first: `secryn backup release BACKUP --holder NAME`."


class BackupInUse(ConflictError):
    code = "backup.in_use"
    hint = "Wait until the download, the restore or the rehearsal of it is over."
    retryable = True


class BackupNeeded(ConflictError):
    code = "backup.needed"
    hint = "Wait until the undo window of the restore is over: `secryn restore list`."


class NewestBackup(ConflictError):
    code = "backup.newest"
    hint = "Make another backup first, and view its key: then this one can be deleted."


class RulesKeep(ConflictError):
    code = "retention.kept"
    hint = "`secryn retention preview` says by which rule."


class BackupPurging(ConflictError):
    code = "backup.purging"
    hint = "It is being purged, or was: `secryn backup show` says why and how far."


class PreviewsBusy(ConflictError):
    code = "preview.busy"
    hint = "Ask again when one of the others is over."
    retryable = True


class KeyAlreadyViewed(ConflictError):
    code = "key.already_viewed"
    hint = "A one-time key is shown once. Ask the one who viewed it, or make a new backup."


class KeyExpired(ConflictError):
    code = "key.expired"
    hint = "The key was not viewed in time and is gone. Make a new backup."


class KeyUnreadable(ConflictError):
    code = "key.unreadable"
    hint = (
        "Bring the folder of the key-encryption keys back (is it mounted?), or make a new backup."
    )


class KeyNotReady(ConflictError):
    code = "key.not_ready"
    hint = "The key can be viewed when the backup is complete."
    retryable = True


class TargetMismatch(ConflictError):
    code = "restore.target_mismatch"
    hint = "Name the id of the instance that will be replaced: `secryn status` shows it."


class CrossesRestore(ConflictError):
    code = "restore.crosses_restore"
    hint = "Take a backup from after that restore, or roll forward to an offset before it."


class RollForwardRange(UsageError):
    code = "restore.roll_forward_range"
    hint = "Name an offset or a time between the backup and now, or `latest`."


class OutsideWindow(ConflictError):
    code = "restore.outside_window"
    hint = "Wait for the maintenance window, or give a reason: `--outside-window REASON`."


class TooFewApprovers(ConflictError):
    code = "approval.too_few"
    hint = (
        "Give another user of the instance a role with the permission backup.approve, or register "
        "another issuer that may approve; then try again."
    )


class ApprovalExpired(ConflictError):
    code = "approval.expired"
    hint = "Ask for it again: what was not approved, or not begun, in time is over."


class ApprovalMissing(ConflictError):
    code = "approval.missing"
    hint = "Wait for another person's approval: `secryn restore show` says of whom."


class NothingToApprove(ConflictError):
    code = "approval.not_awaited"
    hint = "Read its state: it awaits no approval, or no start, now."


class TokenExists(ConflictError):
    code = "token.exists"
    hint = "Give another name: a name stands for one token for ever, in the audit trail too."


class UserExists(ConflictError):
    code = "user.exists"
    hint = "Give another name, or give that user a role with the permissions it needs."


class LogGap(ConflictError):
    code = "log.gap"
    hint = "Roll forward from a newer backup, or restore this one without a roll-forward."


class RevokeRefused(ConflictError):
    code = "restore.revoke_refused"
    hint = (
        "Look at what comes back with `secryn restore preview`; restore without --revoke-returning."
    )


class NotVoided(ConflictError):
    code = "restore.not_voided"
    hint = "`secryn restore voided RESTORE` lists what a restore made void, with the offsets."


class StrayNotDropped(ConflictError):
    code = "restore.stray_not_dropped"
    hint = "End who reads it, drop what was made in it or hangs on it, and try again."


class NotUndoable(ConflictError):
    code = "restore.not_undoable"
    hint = "Only the last restore can be undone, and within its window: `secryn restore list`."


class DependentObjects(ConflictError):
    code = "restore.dependent_objects"
    hint = "Drop the named objects before the restore and create them again after it."


class EpochChanged(ConflictError):
    code = "instance.epoch_changed"
    hint = "A restore replaced the instance. Read the new state and decide again."
    retryable = True


class FenceOpen(ConflictError):
    code = "instance.fenced"
    hint = "A restore is replacing the instance. Writing goes on when it is over; try again then."
    retryable = True


class SampleAlreadyLoaded(ConflictError):
    code = "sample.already_loaded"
    hint = "Give another --seed: its names and ids are others."


class EventRejected(ConflictError):
    code = "instance.rejected"
    hint = "The event contradicts the state and changed nothing. Read the state and decide again."


class KeyringError(ConflictError):
    code = "keyring.does_not_open"
    hint = "The root key of this place is not the one that the keyring was wrapped under."


class ProducerFenced(ConflictError):
    code = "kafka.producer_fenced"
    hint = "Another replica publishes now; this one steps back."


class LogLost(ConflictError):
    code = "log.lost"
    hint = (
        "The log under this address is not the one the store was folded from. Restore a backup, "
        "or adopt the log with `secryn instance adopt-log --instance ID`."
    )


class LogNotLost(ConflictError):
    code = "log.not_lost"
    hint = "The store follows the log that is there: there is nothing to adopt."


class LogNotEmpty(ConflictError):
    code = "log.not_empty"
    hint = (
        "Say what becomes of what the log holds already: `--from beginning` applies it to the "
        "store, `--from end` passes it over for good."
    )


class NothingToSkip(ConflictError):
    code = "projector.nothing_to_skip"
    hint = "Only the event that the projector stopped at can be skipped: `secryn status` names it."


class NeedsArchive(ConflictError):
    code = "log.needs_archive"
    hint = "The log alone does not lead past this restore. Restore the named backup."


class ProjectorStopped(ConflictError):
    code = "projector.stopped"
    hint = "`secryn status` names the offset and the reason that the projector stopped at."


class NotFoundError(SecrynError):
    code = "not_found"
    hint = "Check the id or the path; the list commands show what exists."
    http_status = 404
    exit_code = 5


class BackupNotFound(NotFoundError):
    code = "backup.not_found"
    hint = "`secryn backup list` shows the backups that exist."


class RetentionRunNotFound(NotFoundError):
    code = "retention.run_not_found"
    hint = "Give the run_id that `secryn retention run --json` printed."


class HoldNotFound(NotFoundError):
    code = "backup.hold_not_found"
    hint = "`secryn backup show` names the holders, whose names are to be given with --holder."


class RestoreNotFound(NotFoundError):
    code = "restore.not_found"
    hint = "`secryn restore list` shows the restores that exist."


class StrayNotFound(NotFoundError):
    code = "restore.stray_not_found"
    hint = "`secryn status` names them; what a restore of the history keeps goes by itself."


class RehearsalNotFound(NotFoundError):
    code = "rehearsal.not_found"
    hint = "`secryn restore rehearsal list` shows the rehearsals that exist."


class PreviewNotFound(NotFoundError):
    code = "preview.not_found"
    hint = "A preview is kept for an hour, until the service restarts: ask for a new one."


class ObjectNotFound(NotFoundError):
    code = "storage.not_found"
    hint = "The stored object is gone. Check the storage, or give the file with --file."


class UploadNotFound(NotFoundError):
    code = "upload.not_found"
    hint = "Upload the file again: what was not used within a day is removed."


class PolicyChangeNotFound(NotFoundError):
    code = "approval.change_not_found"
    hint = "`secryn restore approval show` shows the change that waits, if there is one."


class TokenNotFound(NotFoundError):
    code = "token.not_found"
    hint = "`secryn token list` shows the API tokens by their names."


class SecretNotFound(NotFoundError):
    code = "secret.not_found"
    hint = "A path is PROJECT/VAULT/SECRET; `secryn instance show` lists projects and vaults."


class ArchiveError(SecrynError):
    code = "archive.invalid"
    hint = "Take another copy of the file; compare its SHA-256 with the one in the key file."
    http_status = 422
    exit_code = 6


class NotAnAgeFile(ArchiveError):
    code = "archive.not_age"
    hint = "This is not an age file. Give the .age file that `secryn backup download` wrote."


class AgeHeaderInvalid(ArchiveError):
    code = "archive.header_invalid"
    hint = "The age header is malformed or over a limit. Take another copy of the file."


class WrongKeyOrHeader(ArchiveError):
    code = "archive.wrong_key_or_header"
    hint = (
        "Either the key is of another backup or the file's header was altered. "
        "`secryn key check KEYFILE BACKUP` tells whether they belong together."
    )


class ArchiveDamaged(ArchiveError):
    code = "archive.damaged"
    hint = "The file is cut off or altered. Take another copy of it."


class ArchiveTruncated(ArchiveDamaged):
    code = "archive.truncated"
    hint = "The file is shorter than the backup was. Download it again."


class ArchiveAltered(ArchiveDamaged):
    code = "archive.altered"
    hint = "The file's SHA-256 is not that of the backup. Take another copy of it."


class DigestMismatch(ArchiveError):
    code = "upload.digest_mismatch"
    hint = "It was altered on its way, and was removed. Upload it again."


class ArchiveMalformed(ArchiveError):
    code = "archive.malformed"
    hint = "The decrypted content breaks a rule of FORMAT.md. Do not trust this file."


class ArchiveLimitExceeded(ArchiveMalformed):
    code = "archive.limit_exceeded"
    hint = "The content is over a limit of FORMAT.md. Do not trust this file."


class ManifestMismatch(ArchiveMalformed):
    code = "archive.manifest_mismatch"
    hint = "The content is not what the manifest says. Do not trust this file."


class KeyMalformed(ArchiveError):
    code = "key.malformed"
    hint = "Give the key file as it was written, or the line that begins with AGE-SECRET-KEY-."


class SealedKeyRefused(ArchiveError):
    code = "restore.sealed_key_refused"
    hint = "Seal the key anew to the present recipient, for this command, archive and target."


class AnotherKey(ArchiveError):
    code = "approval.another_key"
    hint = "Give the key that the restore was asked for with: that one was approved."


class SignerUntrusted(ArchiveError):
    code = "archive.signer_untrusted"
    hint = (
        "Give the key file with its comment lines, or name the signer with "
        "--trust-signer FINGERPRINT if you know it."
    )


class SignatureMissingOrBad(ArchiveError):
    code = "archive.signature_invalid"
    hint = "The manifest's signature does not hold. Do not trust this file."


class AnotherInstance(ArchiveError):
    code = "archive.another_instance"
    hint = "The backup is of another instance: name that with --source-instance if it is meant."


class ReceiptInvalid(ArchiveError):
    code = "receipt.invalid"
    hint = (
        "Do not trust this receipt. Whoever has the key can still restore the file itself with "
        "`secryn restore run --file`."
    )


class CheckpointInvalid(ArchiveError):
    code = "audit.checkpoint_invalid"
    hint = "Give a checkpoint as it was saved, and the public keys of the services that sign them."


class AuditChainBroken(ArchiveError):
    code = "audit.chain_broken"
    hint = (
        "Compare with the audit topic or an export that was kept; find out who can write the table."
    )


class FormatTooNew(ArchiveError):
    code = "archive.format_too_new"
    hint = "A newer release wrote this file. Upgrade this software and try again."


class SchemaTooNew(ArchiveError):
    code = "archive.schema_too_new"
    hint = "A newer release wrote this file. Upgrade this software and try again."


class UnavailableError(SecrynError):
    code = "unavailable"
    hint = "The part is down or slow. `secryn status` shows which; try again."
    http_status = 503
    exit_code = 7
    retryable = True


class WatchersBusy(UnavailableError):
    code = "watch.busy"
    hint = "Ask again in a moment, or read the document without waiting for its changes."


class KafkaUnavailable(UnavailableError):
    code = "kafka.unavailable"


class PostgresUnavailable(UnavailableError):
    code = "postgres.unavailable"


class OidcUnavailable(UnavailableError):
    code = "access.provider_unavailable"
    hint = "The sign-in provider does not answer as it should; sign in with a password meanwhile."


class SignInBusy(UnavailableError):
    code = "access.busy"
    hint = "Too many sign-ins at once. Try again; the operator's token and API tokens still work."


class StoreBehind(UnavailableError):
    code = "store.behind"
    hint = "The projector is behind; the event stands on the log and will be stored. Wait for it."


class BarrierTimeout(UnavailableError):
    code = "backup.barrier_timeout"
    hint = "The projector is behind. `secryn status` shows how far; try again when it caught up."


class FenceTimeout(UnavailableError):
    code = "restore.fence_timeout"
    hint = "The fence could not be raised in time; nothing was changed. Check Kafka and try again."


class CutoverBlocked(UnavailableError):
    code = "restore.cutover_blocked"
    hint = "Transactions of other clients held the store too long. End them and try again."


class DeletionRefused(UnavailableError):
    code = "storage.deletion_refused"
    hint = "The storage keeps the object: look for an object lock or missing rights there."


class NoSpace(UnavailableError):
    code = "storage.no_space"
    hint = "Free the named amount of space and try again."
    http_status = 507


class RestoreNoSpace(NoSpace):
    code = "restore.no_space"
    hint = "Make room on the database's disk; an undo window that is over gives some back."


class FailedError(SecrynError):
    code = "failed"
    hint = "Look at the named reason; nothing was left half done."
    exit_code = 8


class BackupFailedError(FailedError):
    code = "backup.failed"
    hint = (
        "The half-written object was deleted and nothing else changed. Mend the reason and retry."
    )


class ProofFailed(BackupFailedError):
    code = "backup.proof_failed"
    hint = "What the storage gave back is not what was written. Check the storage."


class RestoreFailedError(FailedError):
    code = "restore.failed"
    hint = "The instance is as it was before. Mend the reason and start the restore again."


class RehearsalDiffers(FailedError):
    code = "rehearsal.differs"
    hint = (
        "The backup gives back what it holds, but that is not what the log says: somebody changed "
        "the store, or the log. `differing` names the tables; the store's own digest tells which."
    )


class PreviewFailed(FailedError):
    code = "preview.failed"
    hint = "Nothing was changed; the service's log says more."


class Cancelled(FailedError):
    code = "cancelled"
    hint = "It was cancelled; the instance is as it was before."


class Interrupted(FailedError):
    code = "interrupted"
    hint = "The service stopped in the middle; the work was undone. Start it again."
    retryable = True


class StackError(FailedError):
    code = "stack.failed"
    hint = "The log folder of the state has the details."


class StackNoNetwork(StackError):
    code = "stack.no_network"
    hint = (
        "The first start fetches Kafka's jars from Maven Central. Connect this machine, or copy "
        "the cache folder of another one here and name it with SECRYN_CACHE, or name a mirror "
        "with SECRYN_MAVEN_URL."
    )
    retryable = True


class StackJarMismatch(StackError):
    code = "stack.jar_mismatch"
    hint = "The source gave another file than the lock names. Check the proxy or mirror in between."


class StackProcessFailed(StackError):
    code = "stack.process_failed"
    hint = "The named log file says why the process does not run; mend it and run `secryn up`."


class StackNotHealthy(StackError):
    code = "stack.not_healthy"
    hint = "`secryn status` shows which process is not healthy, its log file says why."


class StackStateInvalid(StackError):
    code = "stack.state_invalid"
    hint = "The state folder is not one that `secryn up` made, or a part of it is gone."


class StackStateOpen(StackError):
    code = "stack.state_open"
    hint = "The state holds keys: it must belong to you and be closed to others (chmod 700)."


class StackUnsupportedServer(StackError):
    code = "stack.unsupported_server"
    hint = "Use PostgreSQL 14 or newer and Kafka 3.3 or newer, with the rights that docs name."


class DemoFailed(FailedError):
    code = "demo.failed"
    hint = "The folder named above was kept; the log folders in it have the details."


class StackAlreadyRunning(ConflictError):
    code = "stack.already_running"
    hint = "`secryn status` shows it; `secryn down` stops it."


class StackNotRunning(NotFoundError):
    code = "stack.not_running"
    hint = "Start it with `secryn up`."


def all_error_classes() -> Iterator[type[SecrynError]]:
    """Yield every class of the tree, parents first."""
    pending: list[type[SecrynError]] = [SecrynError]
    while pending:
        cls = pending.pop(0)
        yield cls
        pending.extend(cls.__subclasses__())


def error_class(code: str) -> type[SecrynError]:
    """Return the class that carries ``code``, or SecrynError for an unknown one."""
    return next((cls for cls in all_error_classes() if cls.code == code), SecrynError)
