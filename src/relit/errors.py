"""Every error that relit raises on purpose.

RelitError                  what was attempted, why not, the command that mends it, whether a retry can help
├── ConfigError             relit.toml, a flag or the environment is wrong (exit 78)
├── Invalid                 a request's body or parameters are wrong (exit 2; HTTP 422)
├── NotFound                no such run, agent, schedule, worker (exit 4)
├── Conflict                the thing is in a state that forbids it (exit 6)
│   └── Overtaken           somebody else changed it meanwhile: nothing was done, and trying again helps
├── MailboxFull             depth limit reached; ``retry_after`` seconds (HTTP 429)
├── Unauthorized            missing or wrong token
│   ├── Forbidden           the token does not allow this (HTTP 403)
│   └── WrongHost           the request names another host (HTTP 421)
├── BudgetSpent             a budget of today is spent: told to the agent in its protocol's words
├── ServerUnreachable       no server answers at that address
├── StartFailed             an instance's process could not be started
├── InstanceHeld            something (a restore) holds an instance: it is started when that is over
├── KeeperUnreachable       the process that owns this machine's instances cannot be reached or started
├── ProviderFault           a model's provider cannot be reached, or broke off; told to the agent as HTTP 502
│   └── ProviderSilent      it is reached and says nothing (HTTP 504)
├── StoreError
│   ├── StoreFull           no space left; nothing was written
│   ├── StoreUnavailable    the database cannot be reached; nothing is lost
│   ├── StoreCorrupt        the file is damaged or not ours
│   ├── SchemaTooNew        written by a newer relit
│   └── Fenced              a newer claim owns the run: this worker must let go of it
├── VolumeError
│   ├── FreezeFailed        an agent's processes would not stand still; nothing was changed
│   ├── VolumeTooLarge      over its limits of size or count; names the biggest paths
│   ├── VolumeDamaged       a pack, chunk or manifest does not match its hash; names what is affected
│   ├── WrongKey            the key does not open these packs
│   └── WrongStore          the blob store's prefix belongs to another store
├── SecretDamaged           a secret of the vault does not open: its row is not as it was sealed
├── PayloadError
│   ├── Unserialisable      a value that cannot be written down
│   ├── PayloadTooLarge     over the configured limit
│   └── BlobMissing         the row is there, its content is not
└── RunError                about one run
    ├── UnknownWorkflow     no worker or module has that workflow
    ├── JournalMismatch     the code no longer matches what the run already did
    ├── StepFailed          a step failed for good (its retries are used up, or the error is not retryable)
    ├── StepTimeout         one attempt of a step took longer than its timeout
    ├── StepHung            a step promised heartbeats and stopped sending them
    ├── EffectNotDone       raised *by an effect's function*: it certainly did not happen
    ├── EffectInDoubt       nobody knows whether an effect happened; a person decides
    ├── RunFailed           the awaited run failed
    ├── RunCancelled        the awaited run was cancelled
    ├── RunTimeout          the run's own time limit passed
    ├── TurnFailed          an agent that relit did not write could not answer a message
    └── WaitTimeout         a signal (or a client's wait) did not come in time
"""

from __future__ import annotations

from typing import ClassVar


class RelitError(Exception):
    """Base of relit's errors. ``str(error)`` is the whole story; the parts are attributes."""

    code: ClassVar[str] = "error"
    retry: ClassVar[bool] = False

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what, why, fix)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        return "\n".join(
            line for line in (self.what, self.why and f"why: {self.why}", self.fix and f"fix: {self.fix}") if line
        )


class ConfigError(RelitError):
    """The configuration is wrong: nothing was started."""

    code = "config"


class Invalid(RelitError):
    """The request's body, path or parameters are wrong: nothing was done."""

    code = "invalid"


class NotFound(RelitError):
    """The named thing does not exist."""

    code = "not-found"


class Conflict(RelitError):
    """The thing exists, but in a state in which this cannot be done."""

    code = "conflict"


class Overtaken(Conflict):
    """Another snapshot, or a prune, came first. Nothing was done; trying again starts from what is there now."""

    code = "overtaken"
    retry = True


class MailboxFull(RelitError):
    """The mailbox has reached its depth limit; try again after ``retry_after`` seconds."""

    code = "mailbox-full"
    retry = True

    def __init__(self, what: str, *, why: str = "", fix: str = "", retry_after: float = 1.0) -> None:
        super().__init__(what, why=why, fix=fix)
        self.retry_after = retry_after


class Unauthorized(RelitError):
    """The request carries no token, or a wrong one."""

    code = "unauthorized"


class Forbidden(Unauthorized):
    """The token is good, but does not allow this."""

    code = "forbidden"


class WrongHost(Unauthorized):
    """The request's Host header names somebody else."""

    code = "wrong-host"


class BudgetSpent(RelitError):
    """A budget of today is spent: the call was not made."""

    code = "budget-spent"


class ServerUnreachable(RelitError):
    """No relit server answers at the address."""

    code = "server-unreachable"
    retry = True

    def __init__(self, what: str, *, why: str = "", fix: str = "", arrived: bool = False) -> None:
        super().__init__(what, why=why, fix=fix)
        self.arrived = arrived  # the request may have been done: nobody knows


class StartFailed(RelitError):
    """The operating system refused to start an instance's program: no such file, folder or log."""

    code = "start-failed"
    retry = True


class InstanceHeld(RelitError):
    """The instance is not started while something (a restore) holds it. It starts by itself when that is over."""

    code = "instance-held"
    retry = True


class KeeperUnreachable(RelitError):
    """The keeper, which owns this machine's instances, cannot be reached or started."""

    code = "keeper-unreachable"
    retry = True


class ProviderFault(RelitError):
    """A model's provider cannot be reached, or broke off before its answer or in the middle of it."""

    code = "provider-fault"
    retry = True
    heard = False  # it may have got the call, and charge for it


class ProviderPrivate(ProviderFault):
    """A model's provider lies on this machine or its network, and its route does not say that it may."""

    code = "provider-private"
    retry = False


class ProviderSilent(ProviderFault):
    """A model's provider is reached, but its answer does not come, or does not go on."""

    code = "provider-silent"
    heard = True


class StoreError(RelitError):
    """The database refused or failed."""

    code = "store"


class StoreFull(StoreError):
    """No space left (or no memory): the whole batch was undone."""

    code = "store-full"
    retry = True


class StoreUnavailable(StoreError):
    """The database cannot be reached now."""

    code = "store-unavailable"
    retry = True


class SecretDamaged(RelitError):
    """A secret of the vault does not open: its row is not as it was sealed."""

    code = "secret-damaged"


class StoreCorrupt(StoreError):
    """The database file is damaged, or not one of relit's."""

    code = "store-corrupt"


class SchemaTooNew(StoreError):
    """The database was written by a newer relit."""

    code = "schema-too-new"


class Fenced(StoreError):
    """Another worker has claimed the run since: nothing was written."""

    code = "fenced"


class VolumeError(RelitError):
    """A snapshot, restore or another work on a volume could not be done."""

    code = "volume"


class FreezeFailed(VolumeError):
    """An agent's processes would not stand still in time. They go on; no snapshot was made."""

    code = "freeze-failed"
    retry = True


class VolumeTooLarge(VolumeError):
    """A home is over its limits of size or count. The biggest paths are named."""

    code = "volume-too-large"


class VolumeDamaged(VolumeError):
    """A pack, a chunk or a manifest record is not what was written."""

    code = "volume-damaged"


class WrongKey(VolumeError):
    """The key at hand does not open these packs, or this vault."""

    code = "wrong-key"


class WrongStore(VolumeError):
    """The blob store's prefix belongs to another relit store."""

    code = "wrong-store"


class PayloadError(RelitError):
    """A value could not be stored or read back."""

    code = "payload"


class Unserialisable(PayloadError):
    """The value has a part that cannot be written down."""

    code = "unserialisable"


class PayloadTooLarge(PayloadError):
    """The value is larger than the configured limit."""

    code = "payload-too-large"


class BlobMissing(PayloadError):
    """The content of a large payload is not in the blob store."""

    code = "blob-missing"


class RunError(RelitError):
    """Something about one run."""

    code = "run"


class UnknownWorkflow(RunError):
    """No such workflow in the loaded modules."""

    code = "unknown-workflow"


class JournalMismatch(RunError):
    """The workflow's code no longer matches its journal. ``recorded`` and ``found`` are both sides."""

    code = "journal-mismatch"

    def __init__(self, what: str, *, recorded: str = "", found: str = "", why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why or f"the journal has {recorded}; the code asked for {found}", fix=fix)
        self.recorded = recorded
        self.found = found


class StepFailed(RunError):
    """A step failed for good. ``position`` names the step, ``error_type`` the original exception."""

    code = "step-failed"

    def __init__(self, what: str, *, position: str = "", error_type: str = "", why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.position = position
        self.error_type = error_type


class StepTimeout(RunError):
    """One attempt of a step ran longer than its timeout."""

    code = "step-timeout"
    retry = True


class StepHung(RunError):
    """A step stopped sending the heartbeats it promised."""

    code = "step-hung"
    retry = True


class EffectNotDone(RunError):
    """Raise this from an effect's function when the effect certainly did not happen."""

    code = "effect-not-done"


class EffectInDoubt(RunError):
    """An effect has an intent and no receipt, and its class asks a person."""

    code = "effect-in-doubt"


class RunFailed(RunError):
    """The run that was waited for failed."""

    code = "run-failed"


class RunCancelled(RunError):
    """The run that was waited for was cancelled."""

    code = "run-cancelled"


class RunTimeout(RunError):
    """The run's own time limit passed."""

    code = "run-timeout"


class TurnFailed(RunError):
    """An agent could not answer a message."""

    code = "turn-failed"


class WaitTimeout(RunError):
    """What was waited for did not come in time."""

    code = "wait-timeout"
    retry = True


def by_code() -> dict[str, type[RelitError]]:
    """Every error class by its code (for ``relit explain`` and the docs' test)."""
    found: dict[str, type[RelitError]] = {}
    todo: list[type[RelitError]] = [RelitError]
    while todo:
        cls = todo.pop()
        found[cls.code] = cls
        todo.extend(cls.__subclasses__())
    return found
