package schema

// Kinds returns how many kinds of changes have an effect.
func Kinds() int { return len(effects) }
