// What an operator may name, and within which bounds: one set of rules for the configuration file and for the wire.

/** The longest time to live: 3,650 days, in milliseconds. */
export { maxTtlMs as maxTtl } from '../store/command-shapes.ts'
export {
  holderPattern,
  isHolder,
  isName,
  isTitle,
  maxNameLength,
  namePattern,
  titlePattern,
} from '../store/names.ts'

/** The longest key, in bytes. */
export const maxKeyBytes = 4_096

/** The largest value any configuration may allow, in bytes. */
export const maxValueBytes = 64 * 1_024 * 1_024
