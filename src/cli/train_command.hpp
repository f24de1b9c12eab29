// `strata train`.
#pragma once

namespace CLI {
class App;
}

namespace strata::cli {

/// Adds the command; `exit_code` is set when it ran.
void add_train_command(CLI::App& app, int& exit_code);

}  // namespace strata::cli
