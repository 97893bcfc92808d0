"""The checks that must hold before a version is recorded, in any run: a blocking check stops only its own run."""

from boursomatic_assets.assets import features, labels, market_data, metrics, models, predictions, splits

REQUIRED_CHECKS = {
    key: tuple(check.keys_by_input_name.values())
    for check in (
        market_data.stored_bars_keep_the_contract,
        market_data.the_universe_has_arrived,
        features.values_are_possible,
        features.the_future_is_not_read,
        features.instruments_do_not_touch,
        features.features_follow_from_their_own_bars,
        labels.labels_end_after_their_session,
        labels.labels_follow_their_own_instrument,
        labels.labels_end_a_horizon_later,
        labels.no_label_outlives_its_instrument,
        labels.labels_carry_the_stored_features,
        labels.inputs_do_not_depend_on_price_level,
        labels.only_members_of_the_time,
        splits.sets_do_not_touch,
        splits.sets_are_rows_of_the_labels,
        splits.no_feature_knows_the_label,
        models.probabilities_sum_to_one,
        models.forecasts_are_finite,
        predictions.predictions_are_out_of_sample,
        predictions.the_test_set_is_not_read,
        metrics.figures_are_possible,
        metrics.prices_behind_the_figures_can_be,
    )
    for key in check.check_keys
}
