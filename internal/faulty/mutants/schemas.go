package main

// schemaRules is the package that says what is incompatible.
const schemaRules = "./internal/schema"

// schemas breaks what changes of schemas are found.
func schemas() []mutant {
	return []mutant{
		{
			name:   "what breaks only code is incompatible",
			breaks: "a bus calls instances whose schema breaks only generated code",
			edits:  []edit{{pkg: schemaRules, in: "comparison.add", old: "(c.all || kind.Effect().Incompatible)", new: "(c.all || kind != \"\")"}},
			suites: of(schemaRules, "TestAFieldThatIsGoneBreaksCodeAndNamesOnly"),
		},
		{
			name:   "removed idempotency is overlooked",
			breaks: "a diff finds RPCs that running callers still retry",
			edits:  []edit{{pkg: schemaRules, in: "comparison.rpcs", old: "idempotent(here) && !idempotent(there)", new: "idempotent(here) && !idempotent(here)"}},
			suites: of(schemaRules, "TestChangesHaveAKindAndWhatIsIncompatible"),
		},
		{
			name:   "messages may be renamed",
			breaks: "a diff finds what no longer compiles",
			edits:  []edit{{pkg: schemaRules, in: "comparison.renamed", old: "!= string(c.packages[1])", new: "== string(c.packages[1])"}},
			suites: of(schemaRules, "TestChangesHaveAKindAndWhatIsIncompatible"),
		},
	}
}
