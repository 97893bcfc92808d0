"""Every error the platform raises on purpose.

    BoursomaticError
    ├── NotInstalledError (ImportError)           a part that is in the repository, not in the installed package
    ├── ConfigurationError (ValueError)           settings or experiment that cannot be used
    │   └── UnknownBenchmarkError (LookupError)   a benchmark without bars
    ├── ProviderError
    │   ├── UnknownProviderError (LookupError)    no provider of that name
    │   ├── SourceFileError (ValueError)          a price file missing, truncated or without a column
    │   ├── SourceFailedError (ConnectionError)   a source that is down, refuses or answers with rubbish
    │   ├── SymbolNotFoundError (LookupError)     a symbol that the source does not know
    │   ├── NoBarsError (LookupError)             a known symbol without bars for the dates asked for
    │   └── DelistedError (LookupError)           a symbol that has stopped trading
    ├── PanelError (ValueError)
    │   ├── BarContractError                      too many bars break the bar contract
    │   ├── PanelContractError                    a panel unsorted, duplicated or lacking a column
    │   ├── NotEnoughHistoryError                 too few sessions for the features or the split
    │   ├── DegenerateLabelsError                 a class that never occurs in the training rows
    │   ├── NoRowsError                           nothing, or nulls alone, where a figure needs values
    │   └── NonFiniteReturnsError                 a return that is NaN, infinite or below -1
    ├── StaleInputError (RuntimeError)            an input built under another experiment
    ├── ModelMismatchError (ValueError)           a bundle whose models are not what its manifest says
    ├── UnknownRecommendationError (LookupError)  no recommendation of that id, or symbol and session
    ├── NotDeliveredError (ConnectionError)       a message that its receiver did not take
    └── StorageError
        ├── DatabaseUnreachableError (ConnectionError)
        ├── SchemaVersionError (RuntimeError)     a schema older or newer than this program
        ├── RowsBreakRuleError (ValueError)       existing rows that a new rule would forbid
        ├── ActiveModelChangedError (RuntimeError) another version became active since a decision about one
        ├── ArtifactWriteError (OSError)          a folder read-only, a disk full
        ├── MissingArtifactError (LookupError)    an asset or a bundle that was never stored
        ├── TamperedArtifactError (ValueError)    bytes that are not the ones recorded
        ├── BackupError (ValueError)              a backup that cannot be made, read or restored
        └── ServerUpgradeError (RuntimeError)     an old data folder of PostgreSQL that cannot be upgraded

Each class also derives from the built-in that fits, so that a caller may catch either. A message says
what was expected, what was found, and the next command to run.
"""


class BoursomaticError(Exception):
    """Root of the tree: catch this to catch all that the platform raises on purpose."""


class ConfigurationError(BoursomaticError, ValueError):
    """A setting or an experiment value that cannot be used."""


class NotInstalledError(BoursomaticError, ImportError):
    """Something asked for is in the repository, not in the installed package."""


class UnknownBenchmarkError(ConfigurationError, LookupError):
    """A benchmark that has no bars, or none that can be used."""


class ProviderError(BoursomaticError):
    """A price source that could not deliver."""


class UnknownProviderError(ProviderError, LookupError):
    """No provider is registered under that name."""


class SourceFileError(ProviderError, ValueError):
    """A price file that is missing, truncated, or lacks a needed column."""


class SourceFailedError(ProviderError, ConnectionError):
    """A price source is down, refuses, or answers with something that is no prices."""


class SymbolNotFoundError(ProviderError, LookupError):
    """The source does not know the symbol."""


class NoBarsError(ProviderError, LookupError):
    """The source knows the symbol and has no bars for the dates asked for."""


class DelistedError(ProviderError, LookupError):
    """The symbol has stopped trading."""


class PanelError(BoursomaticError, ValueError):
    """Rows that cannot be used as they are."""


class BarContractError(PanelError):
    """More bars break the bar contract than the configured share allows."""


class PanelContractError(PanelError):
    """A panel that is not sorted, not unique, or lacks a column."""


class NotEnoughHistoryError(PanelError):
    """Fewer sessions than the features or the split need."""


class DegenerateLabelsError(PanelError):
    """A class that never occurs among the rows to train on."""


class NoRowsError(PanelError):
    """No rows, or nulls where values are needed: there is no figure to give, and a zero would be one."""


class NonFiniteReturnsError(PanelError):
    """A return that is NaN, infinite or below -1."""


class StaleInputError(BoursomaticError, RuntimeError):
    """An input that was built under another experiment than the one in use."""


class ModelMismatchError(BoursomaticError, ValueError):
    """The boosters of a bundle take other features, or give other classes, than its manifest says."""


class UnknownRecommendationError(BoursomaticError, LookupError):
    """No recommendation is recorded under that id, or for that symbol and session."""


class NotDeliveredError(BoursomaticError, ConnectionError):
    """A receiver of messages is down, too slow, or refuses."""


class StorageError(BoursomaticError):
    """The database or the artifacts cannot be read or written."""


class DatabaseUnreachableError(StorageError, ConnectionError):
    """The database server does not answer or refuses."""


class SchemaVersionError(StorageError, RuntimeError):
    """The database schema is older or newer than this program."""


class RowsBreakRuleError(StorageError, ValueError):
    """Existing rows would break a rule that the migration adds."""


class ActiveModelChangedError(StorageError, RuntimeError):
    """Another version has become the active one since a decision was made about the one before."""


class ArtifactWriteError(StorageError, OSError):
    """An artifact could not be written whole; nothing of it was left behind."""


class MissingArtifactError(StorageError, LookupError):
    """An artifact that was never stored, or was removed."""


class TamperedArtifactError(StorageError, ValueError):
    """Stored bytes differ from the digest recorded for them."""


class BackupError(StorageError, ValueError):
    """A backup cannot be made, read or restored."""


class ServerUpgradeError(StorageError, RuntimeError):
    """A data folder of an older PostgreSQL cannot be upgraded; it stays as it was."""
