// `strata config check FILE` and `strata config keys`.
#pragma once

namespace CLI {
class App;
}

namespace strata::cli {

/// Adds the command; `exit_code` is set when it ran: 0 ok, 2 the file is wrong.
void add_config_command(CLI::App& app, int& exit_code);

}  // namespace strata::cli
