/** The error classes that every entry exports. */

export {
  ArgumentError,
  ConfigError,
  CrashedError,
  DialError,
  IdentityInUseError,
  LoadError,
  SelkieError,
  StoppedError,
  StorageError,
} from './errors.js'
